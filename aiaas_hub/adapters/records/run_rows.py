"""Rows of runs as the records that others know."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.tables import ModelRow, ModelVersionRow, RunRow
from aiaas_hub.domain.holdings import Contender
from aiaas_hub.domain.records import LiveRun
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.runs import Priority, Progress, Resources, Run, RunError, RunKind, RunState


def find(session: Session, run_id: str) -> RunRow | None:
    return session.scalars(select(RunRow).where(RunRow.id == run_id)).one_or_none()


def added_before(
    session: Session, run: Run, idempotency_key: str | None, trial: int | None
) -> RunRow | None:
    query: Select[RunRow]
    if trial is not None:
        query = select(RunRow).where(RunRow.parent == run.parent, RunRow.trial == trial)
    elif idempotency_key is not None:
        query = select(RunRow).where(
            RunRow.owner == run.owner, RunRow.idempotency_key == idempotency_key
        )
    else:
        return None
    return session.scalars(query).one_or_none()


def contender(
    run_id: str,
    owner: str,
    order: int,
    state: str,
    reason: str,
    since: datetime,
    priority: str,
    workers: int,
    cpus: float,
    gpus: float,
    concurrency: int | None,
    name: str,
    begun: datetime | None,
    time_limit: float | None,
) -> Contender:
    return Contender(
        id=run_id,
        owner=owner,
        order=order,
        started=state != RunState.QUEUED,
        reason=reason,
        since=since,
        priority=Priority(priority),
        resources=Resources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus),
        concurrency=concurrency or 1,
        name=name,
        begun=begun,
        time_limit=time_limit,
    )


def live(session: Session, row: RunRow) -> LiveRun:
    return LiveRun(
        run=as_run(session, row),
        submitted_at=row.submitted_at,
        cancel_requested=row.cancel_requested,
        ended_at=row.ended_at,
        pending_at=row.pending_at,
        unseen_since=row.unseen_since,
        used_at=row.used_at,
        stop_error=None if row.stop_error is None else RunError.model_validate(row.stop_error),
    )


def as_run(session: Session, row: RunRow) -> Run:
    model = session.execute(
        select(ModelRow.owner, ModelRow.name, ModelVersionRow.version)
        .join(ModelVersionRow, ModelVersionRow.model_id == ModelRow.id)
        .where(ModelVersionRow.run_id == row.id)
        # A retried run may have handed over more than one: the last is its model.
        .order_by(ModelVersionRow.version.desc())
        .limit(1)
    ).one_or_none()
    state = RunState(row.state)
    return Run(
        id=row.id,
        owner=row.owner,
        name=row.name,
        kind=RunKind(row.kind),
        parent=row.parent,
        trial=row.trial,
        state=state,
        reason=row.reason or ("" if state.is_terminal else row.retry_reason or ""),
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        model=None
        if model is None
        else PinnedModel(owner=model.owner, name=model.name, version=model.version),
        error=None if row.error is None else RunError.model_validate(row.error),
        last_metrics=row.last_metrics,
        progress=None if row.progress is None else Progress.model_validate(row.progress),
        usage=row.usage,
        **row.spec,
    )
