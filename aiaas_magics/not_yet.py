"""What is promised and not in this release: each name answers `NotYet`, and only here."""

from __future__ import annotations

from typing import NoReturn

VERBS = {
    "compare": "Call Endpoint.predict on two endpoints and compare the arrays.",
    "traffic": "See the present split with '%aiaas endpoint NAME'.",
    "promote": "A published version that verifies gets all traffic at once.",
    "rollback": "Publish the former model again: '%aiaas publish ENDPOINT --model NAME@V'.",
    "panel": "Use '%aiaas datasets', '%aiaas runs' or '%aiaas endpoints'.",
}
"""Promised verb → what to do today."""

OPTIONS = {
    ("train", "--profile"): "Give --workers, --cpus-per-worker and --gpus-per-worker.",
    ("publish", "--canary"): "Publish without it: a version that verifies gets all traffic.",
    ("publish", "--bake"): "Publish without it: a version that verifies gets all traffic.",
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
