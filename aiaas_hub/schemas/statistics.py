"""What the versions of an endpoint do, in numbers and curves."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class Sample(BaseModel):
    """One look at a version's callers, over the time since the look before."""

    at: datetime
    requests_per_second: float
    errors_per_second: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    """Of callers' requests; None where nobody called."""
    queue_ms: float | None = None
    """Mean time that a request waited for its run of the model; None where the model server was
    away, or nobody called."""


class VersionStatistics(BaseModel):
    """What one version does, by the gateway's and the model server's own counts.

    The gateway counts from when the version last came onto the route, or the gateway started; the
    model server from when it loaded the version, canary inference and comparisons included.
    """

    version: int
    percent: int
    mirrored: int = 0
    """Percent of the requests that it gets a copy of, as a shadow; what follows is then of
    these."""
    requests: int = 0
    errors: int = 0
    """HTTP 5xx."""
    refused: int = 0
    """HTTP 4xx of the model server's."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    rows: int = 0
    """Inferred by the model server, over all requests."""
    batch_sizes: dict[int, int] = {}
    """Rows in one run of the model → how often."""
    queue_ms: float | None = None
    """Mean time that a request waits for its run."""
    compute_ms: float | None = None
    """Mean time of a run."""
    healthy: bool | None = None
    """Whether the last canary inference was answered, and as when the version was published; None
    before the first."""
    fault: str = ""
    """What was wrong with it."""
    checked_at: datetime | None = None
    samples: list[Sample] = []
    """Oldest first, of the last hour at most, and since the service started."""


class EndpointStatistics(BaseModel):
    versions: list[VersionStatistics]
    """Those that are loaded, newest first."""
