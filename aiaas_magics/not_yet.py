"""What is promised and not in this release: each name answers `NotYet`, and only here."""

from __future__ import annotations

from typing import NoReturn

VERBS = {
    "profile": "Look at the columns with '%aiaas preview NAME' and df.describe().",
    "sql": "Load the rows with '%aiaas load NAME --into df' and filter them with pandas.",
    "panel": "Use '%aiaas datasets', '%aiaas runs' or '%aiaas endpoints'.",
}
"""Promised verb → what to do today."""

OPTIONS = {
    ("train", "--profile"): "Give --workers, --cpus-per-worker and --gpus-per-worker.",
    ("preview", "--where"): "Load the rows and filter them with pandas.",
    ("load", "--where"): "Load the rows and filter them with pandas.",
}
"""(Verb, option) → what to do today."""


def refuse(what: str, remedy: str) -> NoReturn:
    """Raise `NotYet` for something by the name that the user typed."""
    # Here, not above: magics list these names when they load, and errors bring pydantic along.
    from aiaas_hub.schemas.errors import NotYet

    raise NotYet(f"{what} is not in this release yet.", remedy=remedy)


def refuse_verb(verb: str) -> NoReturn:
    refuse(f"'%aiaas {verb}'", VERBS[verb])


def refuse_option(verb: str, option: str) -> NoReturn:
    refuse(f"'%aiaas {verb} {option}'", OPTIONS[verb, option])
