"""What the routers work on: the domain, composed by `aiaas_hub.app`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from aiaas_hub.api.live import Live
from aiaas_hub.domain.admission import Admission
from aiaas_hub.domain.auditing import AuditRecords
from aiaas_hub.domain.bringing import Bringing
from aiaas_hub.domain.comparing import Comparing
from aiaas_hub.domain.data_ports import BlobStore, PartialUploads
from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.drifting import Drifting
from aiaas_hub.domain.endpoints import Endpoints
from aiaas_hub.domain.jobs import Jobs
from aiaas_hub.domain.lineage import Lineages
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.profiling import Profiling
from aiaas_hub.domain.querying import Querying
from aiaas_hub.domain.quotas import Budgets
from aiaas_hub.domain.records import BlobGrants, EndpointRecords, RequestRecords, RunRecords
from aiaas_hub.domain.runs import Runs
from aiaas_hub.domain.secrets import Secrets
from aiaas_hub.domain.sleeping import Sleeping
from aiaas_hub.domain.transforming import Transforms
from aiaas_hub.domain.trials import Trials
from aiaas_hub.domain.usage import Members, UsageRecords
from aiaas_hub.domain.watching import Watching
from aiaas_hub.schemas.paging import DEFAULT_PAGE, MAX_PAGE
from aiaas_hub.schemas.platform import EngineHealth, WorkerProfile


@dataclass(frozen=True)
class Services:
    datasets: Datasets
    bringing: Bringing
    secrets: Secrets
    querying: Querying
    profiling: Profiling
    comparing: Comparing
    runs: Runs
    admission: Admission
    jobs: Jobs
    trials: Trials
    transforms: Transforms
    models: Models
    endpoints: Endpoints
    watching: Watching
    drifting: Drifting
    sleeping: Sleeping
    lineages: Lineages
    audit: AuditRecords
    usage: UsageRecords
    members: Members
    budgets: Budgets
    blobs: BlobStore
    uploads: PartialUploads
    grants: BlobGrants
    requests: RequestRecords
    run_records: RunRecords
    endpoint_records: EndpointRecords
    live: Live
    wake: Callable[[], None]
    """Tells the reconciler that there is something to do."""
    profiles: Callable[[frozenset[str]], list[WorkerProfile]]
    """Those open to a member of these groups."""
    engines: Callable[[], Sequence[EngineHealth]]
    gateway_url: Callable[[], str]
    max_upload_bytes: int
    python: str


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Api = Annotated[Services, Depends(_services)]
Cursor = Annotated[str | None, Query(max_length=64, description="`next_cursor` of the last page")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items to answer")]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Default: the newest")]
DEFAULT_LIMIT = DEFAULT_PAGE
