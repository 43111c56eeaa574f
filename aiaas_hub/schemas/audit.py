"""The audit log: who did what to which object, when, from where and with which result."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel


class Via(StrEnum):
    """Which way an act came in."""

    API = "api"
    """A user's request, with their hub token."""
    RUN = "run"
    """A job's request, with its run token; `actor` is the run's owner."""
    HUB = "hub"
    """Told by the hub: sign-ins, servers, what administrators change there."""
    SERVICE = "service"
    """The service's own decision, such as ending a run whose quota is used up."""


class Outcome(StrEnum):
    BEGUN = "begun"
    """Written before the effect; where no second entry of this request follows, nobody lived to
    write how it ended."""
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class AuditEntry(BaseModel):
    number: int
    """1, 2, 3, … without a gap."""
    at: datetime
    actor: str
    via: Via
    act: str
    """The operation as openapi.json names it, such as `submit_run`, or what happened in the hub,
    such as `sign-in`."""
    object: str
    """`runs/run-…`, `endpoints/ada/digits`, `users/ada`."""
    owner: str
    """Whose object it is; empty where nobody's or not known."""
    outcome: Outcome
    request_id: str
    origin: str
    """Address that the request came from, as the hub's proxy saw it."""
    detail: dict[str, str | int]
    """HTTP status, and what was made: ids and versions; never a secret."""
    previous: str
    """`hash` of the entry before this one."""
    hash: str
    """SHA-256 of all of the above, see `domain/auditing.py`."""
