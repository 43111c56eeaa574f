"""Endpoints on the wire."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field, model_validator

from aiaas_hub.schemas.models import PinnedModel, Signature
from aiaas_hub.schemas.names import Name

MAX_BATCH = 256
"""Rows that one inference request may have; clients send larger inputs in pieces."""


class EndpointState(StrEnum):
    """staging → verifying → canary → serving; failed keeps the former route serving; retired."""

    STAGING = "staging"
    VERIFYING = "verifying"
    CANARY = "canary"
    SERVING = "serving"
    FAILED = "failed"
    RETIRED = "retired"

    @property
    def is_settled(self) -> bool:
        return self in (EndpointState.SERVING, EndpointState.FAILED, EndpointState.RETIRED)


class PublishRequest(BaseModel):
    """Exactly one of `run` and `model`."""

    run: str | None = None
    """A run's id: its model is published."""
    model: str | None = None
    """`[owner/]name[@version]`."""

    @model_validator(mode="after")
    def _one_source(self) -> PublishRequest:
        if (self.run is None) == (self.model is None):
            raise ValueError("Give either a run or a model.")
        return self


class Parity(BaseModel):
    """Triton's answers against the source model's, on the held-out rows."""

    max_abs: float
    """Largest absolute difference over all outputs, rows and batch sizes."""
    rows: int
    batches: list[int]
    """Batch sizes tried."""
    p50_ms: float
    p99_ms: float


class EndpointVersion(BaseModel):
    version: int
    model: PinnedModel
    state: EndpointState
    created_at: datetime
    created_by: str
    parity: Parity | None = None
    reason: str = ""
    """While it is on its way: what it waits for."""
    error: str = ""
    """Why it failed, one sentence."""


class Endpoint(BaseModel):
    owner: str
    name: Name
    state: EndpointState
    """Of the newest version; a failed one leaves `traffic` as it was."""
    traffic: dict[int, int]
    """Version → percent; empty until the first version serves."""
    versions: list[EndpointVersion]
    """Newest first."""
    signature: Signature | None = None
    """Of the newest version with traffic."""
    url: str
    """Base address of the Open Inference Protocol: `{gateway}/{owner}/{name}`."""
    created_at: datetime
    updated_at: datetime


class KeyCreate(BaseModel):
    expires_in_days: float = Field(default=90, gt=0, le=366)
    note: str = Field(default="", max_length=200)


class Key(BaseModel):
    """A key of an endpoint; `token` is in the answer to its creation and nowhere else."""

    id: str
    endpoint: str
    note: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    token: str | None = None


class EndpointToken(BaseModel):
    """A short-lived key that a signed-in user's client exchanged its hub token for."""

    token: str
    expires_at: datetime
