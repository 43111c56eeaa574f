"""Endpoints on the wire."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from aiaas_hub.schemas.models import PinnedModel, Signature
from aiaas_hub.schemas.names import Name

MAX_BATCH = 256
"""Rows that one inference request may have; clients send larger inputs in pieces."""
MAX_SECONDS = 120
"""How long a request may take from its arrival at the gateway to its answer."""


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


class Sleep(StrEnum):
    """Of an endpoint that was unloaded while nobody called it."""

    ASLEEP = "asleep"
    WAKING = "waking"
    """Being loaded: who calls waits."""


class Limits(BaseModel):
    """What a canary may do and still be promoted at the end of its bake."""

    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of its requests that fail (HTTP 5xx), beyond the former version's own."""
    max_slowdown: float = Field(default=2.0, gt=0, le=1000)
    """Its p95 over the former version's; five milliseconds more are never too many."""
    max_disagreement: float = Field(default=0.25, ge=0, le=1)
    """Share of the held-out rows that the two versions answer differently."""


class CanaryPlan(BaseModel):
    """How a new version comes to its traffic, where it does not get all of it at once."""

    percent: int = Field(ge=1, le=100)
    """Its share of the requests; of a shadow, the share that it gets a copy of."""
    shadow: bool = False
    """Whether it gets copies only: what it answers to them goes to nobody."""
    sticky: bool = False
    """Whether the same caller always comes to the same version."""
    bake_seconds: float | None = Field(default=None, ge=1, le=7 * 24 * 3600)
    """After so long it is promoted or rolled back by itself; None: somebody decides."""
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _a_share(self) -> CanaryPlan:
        if self.percent == 100 and not self.shadow:
            raise ValueError("A canary gets at most 99 percent; only a shadow a copy of all.")
        if self.sticky and self.shadow:
            raise ValueError("A shadow answers no callers, so there is nothing to be sticky.")
        return self


Precision = Literal["fp16", "int8"]
"""`int8`: weights in eight bits, and what they are multiplied with, as it comes."""


class ServingOptions(BaseModel):
    """How a version is served, as far as it was said; None: the platform's own choice."""

    instances: int | None = Field(default=None, ge=1, le=32)
    """Copies of the model that infer at the same time; each takes its memory."""
    max_batch: int | None = Field(default=None, ge=1, le=MAX_BATCH)
    """Rows of one request, and of one run of the model over several requests."""
    warm_up: bool = False
    """Whether every instance infers held-out rows before the version gets its first request."""
    timeout_seconds: float | None = Field(default=None, ge=0.001, le=MAX_SECONDS)
    """After so long, its time in the queue included, a request is answered with HTTP 504."""
    precision: Precision | None = None
    """None: as the model was handed over."""
    idle_seconds: float | None = Field(default=None, ge=1, le=30 * 24 * 3600)
    """After so long without a call the endpoint is unloaded until the next one; None: never."""
    batch_delay: Annotated[float, Field(ge=0, le=1000)] | Literal["off"] | None = None
    """Milliseconds that a request waits for others, to be inferred in one run with them; `off`:
    each is a run of its own. None: it shares a run with those that wait already, and waits for no
    others."""

    @model_validator(mode="after")
    def _delays_less_than_it_may_take(self) -> Self:
        delay, timeout = self.batch_delay, self.timeout_seconds
        if isinstance(delay, float) and timeout is not None and delay >= 1000 * timeout:
            raise ValueError("batch_delay is as long as a request may take at all; give less.")
        return self

    @property
    def largest_batch(self) -> int:
        return self.max_batch or MAX_BATCH


class Why(BaseModel):
    why: str = Field(default="", max_length=1000)
    """For the history."""


class PublishRequest(Why):
    """Exactly one of `run` and `model`."""

    run: str | None = None
    """A run's id: its model is published."""
    model: str | None = None
    """`[owner/]name[@version]`."""
    canary: CanaryPlan | None = None
    """None: it gets all requests as soon as it is verified, and so does a first version."""
    options: ServingOptions = ServingOptions()

    @model_validator(mode="after")
    def _one_source(self) -> PublishRequest:
        if (self.run is None) == (self.model is None):
            raise ValueError("Give either a run or a model.")
        return self


class ModelFigures(BaseModel):
    """A model in onnxruntime on one thread of a processor, without a server around it."""

    size_bytes: int
    p50_ms: float
    """Of one row."""
    rows_per_second: float
    """In batches of the largest size."""


class Conversion(BaseModel):
    """What a lower precision made of a model."""

    precision: Precision
    before: ModelFigures
    after: ModelFigures
    tolerance: float
    """Largest difference accepted, relative to the largest expected output (at least 1)."""
    disagreement: float
    """Share of the held-out rows that are answered otherwise."""
    max_disagreement: float
    """The largest such share that is accepted."""


class Parity(BaseModel):
    """Triton's answers against the source model's, on the held-out rows."""

    max_abs: float
    """Largest absolute difference over all outputs, rows and batch sizes."""
    rows: int
    batches: list[int]
    """Batch sizes tried."""
    p50_ms: float
    p99_ms: float
    """Of one row, asked for by the service itself, without the gateway."""
    rows_per_second: float | None = None
    """In batches of the largest size, one after the other."""
    memory_bytes: int | None = None
    """Of all instances, as measured by loading the model in a process of its own."""
    conversion: Conversion | None = None
    """Where a precision was asked for."""


class VersionNumbers(BaseModel):
    """What was seen of one version during a bake."""

    requests: int = 0
    """Callers' requests, as the gateway counts them."""
    errors: int = 0
    """Of these, answered with HTTP 5xx."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    """Latency of these behind the gateway; None before the first one."""
    probes: int = 0
    """Canary inferences of the service's own, on held-out rows."""
    probe_errors: int = 0
    """Of these, unanswered, or answered otherwise than the source model does."""
    probe_p50_ms: float | None = None
    """Their latency at one row, without the gateway."""


class Bake(BaseModel):
    """A canary under judgement, and at its end the numbers that decided."""

    started_at: datetime
    ends_at: datetime | None
    """None: of a shadow that somebody judges, however long it takes."""
    limits: Limits
    canary: VersionNumbers = VersionNumbers()
    former_version: int | None = None
    """What it is compared with: the former route's largest share."""
    former: VersionNumbers = VersionNumbers()
    disagreement: float | None = None
    """Share of held-out rows that the two answer differently; None where they cannot be
    compared, their inputs or outputs not being alike."""
    rows: int = 0
    """Held-out rows that were compared."""
    decision: Literal["promoted", "rolled back"] | None = None
    reasons: list[str] = []
    """Of the decision, one sentence each."""


class EndpointVersion(BaseModel):
    version: int
    model: PinnedModel
    state: EndpointState
    created_at: datetime
    created_by: str
    options: ServingOptions = ServingOptions()
    parity: Parity | None = None
    plan: CanaryPlan | None = None
    """As it was published with; None: all requests at once."""
    routed_at: datetime | None = None
    """When it got its first share of the requests."""
    bake: Bake | None = None
    reason: str = ""
    """While it is on its way: what it waits for."""
    error: str = ""
    """Why it failed, one sentence."""
    why: str = ""
    """Why it was published, as its publisher says."""

    @property
    def is_judged(self) -> bool:
        """A canary that has its share and waits for its promotion or rollback."""
        has_share = self.plan is not None and self.routed_at is not None
        return self.state is EndpointState.CANARY and has_share

    @property
    def is_baking(self) -> bool:
        """A canary that is judged by its numbers, not by somebody."""
        return self.is_judged and self.plan is not None and self.plan.bake_seconds is not None

    @property
    def is_watched(self) -> bool:
        """A canary whose numbers are kept: one that bakes, and a shadow whoever judges it."""
        return self.is_baking or (self.is_judged and self.plan is not None and self.plan.shadow)

    @property
    def is_underway(self) -> bool:
        """Being published."""
        return not self.state.is_settled and not self.is_judged


class Endpoint(BaseModel):
    owner: str
    name: Name
    state: EndpointState
    """Of the newest version; a failed one leaves `traffic` as it was."""
    traffic: dict[int, int]
    """Version → percent; empty until the first version serves."""
    former: dict[int, int] = {}
    """The traffic that a rollback leads back to; empty where there is none."""
    sticky: bool = False
    """Whether the same caller always comes to the same of the versions that share."""
    sleep: Sleep | None = None
    """None: its versions are loaded."""
    versions: list[EndpointVersion]
    """Newest first."""
    signature: Signature | None = None
    """Of the newest version with traffic."""
    url: str
    """Base address of the Open Inference Protocol: `{gateway}/{owner}/{name}`."""
    created_at: datetime
    updated_at: datetime

    @property
    def shadow(self) -> EndpointVersion | None:
        """The version that gets copies of requests, as long as it has no share of its own."""
        newest = self.versions[0]
        hidden = newest.is_judged and newest.plan is not None and newest.plan.shadow
        return newest if hidden and newest.version not in self.traffic else None

    @property
    def largest_batch(self) -> int:
        """Rows that a request may have, whichever version it comes to."""
        loaded = self.traffic.keys() | self.former.keys()
        sizes = [v.options.largest_batch for v in self.versions if v.version in loaded]
        return min(sizes, default=MAX_BATCH)


class Action(StrEnum):
    """What a change of an endpoint was."""

    PUBLISHED = "published"
    """A verified version got all requests."""
    CANARY = "canary"
    """A verified version got its first share."""
    SHADOW = "shadow"
    """A verified version gets copies of requests."""
    TRAFFIC = "traffic"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    """A version did not come to serve; the traffic stayed."""
    RETIRED = "retired"


class Change(BaseModel):
    """One line of an endpoint's history."""

    id: int
    at: datetime
    by: str
    """Who; empty: the platform itself, at the end of a bake or of a failed publish."""
    action: Action
    version: int | None = None
    """Which version it was about."""
    before: dict[int, int]
    after: dict[int, int]
    why: str = ""


class TrafficRequest(Why):
    traffic: dict[int, Annotated[int, Field(ge=0, le=100)]] = Field(min_length=1, max_length=16)
    """Version → percent; together 100."""
    sticky: bool | None = None
    """Whether the same caller always comes to the same version; None: as it is, and not where the
    requests were not shared out."""


class KeyScope(StrEnum):
    """What a key opens; each opens what those before it do."""

    METADATA = "metadata"
    """Whether it is ready, and names and shapes of its tensors."""
    INFER = "infer"
    VERSIONS = "versions"
    """Inference by an exact version, named in the header `x-aiaas-version`."""


class KeyCreate(BaseModel):
    expires_in_days: float = Field(default=90, gt=0, le=366)
    note: str = Field(default="", max_length=200)
    scope: KeyScope = KeyScope.INFER
    rate: int | None = Field(default=None, ge=1, le=100_000)
    """Most requests per second; None: the owner's limits only."""


class Key(BaseModel):
    """A key of an endpoint; `token` is in the answer to its creation and nowhere else."""

    id: str
    endpoint: str
    note: str
    scope: KeyScope = KeyScope.INFER
    rate: int | None = None
    """Most requests per second; None: the owner's limits only."""
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    token: str | None = None


class EndpointToken(BaseModel):
    """A short-lived key that a signed-in user's client exchanged its hub token for."""

    token: str
    expires_at: datetime
