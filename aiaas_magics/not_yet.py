"""What is promised and not in this release: each name answers `NotYet`, and only here."""

from __future__ import annotations

from typing import NoReturn

VERBS: dict[str, str] = {}
"""Promised verb → what to do today."""


def refuse(what: str, remedy: str) -> NoReturn:
    """Raise `NotYet` for something by the name that the user typed."""
    # Here, not above: magics list these names when they load, and errors bring pydantic along.
    from aiaas_hub.schemas.errors import NotYet

    raise NotYet(f"{what} is not in this release yet.", remedy=remedy)


def refuse_verb(verb: str) -> NoReturn:
    refuse(f"'%aiaas {verb}'", VERBS[verb])
