"""What was used, what it cost and what is left."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel


class UsageKind(StrEnum):
    RUN = "run"
    SERVER = "server"
    """A notebook server."""
    ENDPOINT = "endpoint"
    """A version of an endpoint that is served."""


class GroupBy(StrEnum):
    USER = "user"
    GROUP = "group"
    PROFILE = "profile"
    RUN = "run"
    ENDPOINT = "endpoint"
    SERVER = "server"
    DAY = "day"


class UsageAmounts(BaseModel):
    hours: float = 0.0
    """In which it was held, whatever it was."""
    worker_hours: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    cost: float = 0.0
    """Hours times the profile's price per hour, in the operator's currency."""


class UsageLine(UsageAmounts):
    key: str
    """The user, group, profile, run, `owner/endpoint`, server or day."""


class UsageReport(BaseModel):
    since: datetime
    until: datetime
    by: GroupBy
    owner: str | None
    """None: everybody."""
    lines: list[UsageLine]
    """The most expensive first; days in order. Of a user in several groups, each group has all."""
    total: UsageAmounts


class Allowance(BaseModel):
    """A quota, and how far it is used."""

    name: str
    """`GPU-hours`, `worker-hours`, `storage` or `endpoints`."""
    used: float
    limit: float
    unit: str = ""
    """`GB` of storage; empty: hours or a number."""
    renews_at: datetime | None = None
    group: str | None = None
    """Whose members share it; None: the user's own."""
