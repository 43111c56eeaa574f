"""Who is asking, and how the engines are."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel

from aiaas_hub.schemas.runs import Quota
from aiaas_hub.schemas.usage import Allowance


class EngineState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    UNAVAILABLE = "unavailable"


class EngineHealth(BaseModel):
    name: str
    """`ray`, `triton` or `envoy`."""
    state: EngineState
    reason: str = ""
    """Why it is not ready, one sentence with its remedy."""


class WorkerProfile(BaseModel):
    """A size that each worker of a run may have, named as the profile of a notebook server."""

    name: str
    description: str
    cpus: float
    gpus: int
    price_per_hour: float


class Me(BaseModel):
    user: str
    admin: bool
    gateway: str
    """Base address of endpoints."""
    engines: list[EngineHealth]
    quota: Quota | None = None
    """What the user's runs hold, of what they may."""
    allowances: list[Allowance] = []
    """Quotas of hours, storage and endpoints, as far as there are any."""
    live_runs: int
    serving_endpoints: int
    version: str
    """Of the platform; the client compares it with its own."""
    python: str
    """`major.minor` of the runs' interpreter."""
