"""Records of runs and their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import aliased

from aiaas_hub.adapters.records import metrics, run_rows
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.pages import select_page
from aiaas_hub.adapters.records.tables import RunRow
from aiaas_hub.domain.downsampling import Curve
from aiaas_hub.domain.forecasting import Past
from aiaas_hub.domain.holdings import Contender
from aiaas_hub.domain.records import LiveRun, RunFilter
from aiaas_hub.domain.states import check_run_transition
from aiaas_hub.schemas.errors import TooLarge
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.runs import (
    EventFiles,
    MetricPoint,
    PinnedDataset,
    Progress,
    Run,
    RunKind,
    RunState,
    WorkerUsage,
)

MAX_METRIC_NAMES = 200
MAX_METRIC_VALUES = 10_000_000
"""Of one run: drawing its curves takes a few hundred megabytes at the very most."""

_LIVE = [state.value for state in RunState if not state.is_terminal]
_TERMINAL = [state.value for state in RunState if state.is_terminal]
_SPEC = {
    "snapshot",
    "datasets",
    "params",
    "resources",
    "retries",
    "priority",
    "time_limit",
    "early_stop",
    "sweep",
    "transform",
    "resumed_from",
}


_Parent = aliased(RunRow)
# Asked twice a second, and an alias takes longer to write down than to look up.
_UNPARENTED = (
    select(RunRow, _Parent)
    .join(_Parent, _Parent.id == RunRow.parent)
    .where(
        RunRow.kind == RunKind.TRIAL,
        RunRow.state.in_(_LIVE),
        or_(_Parent.state.in_(_TERMINAL), RunRow.cancel_requested),
    )
    .order_by(RunRow.number)
)


class SqlRunRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: Run, idempotency_key: str | None, trial: int | None = None) -> Run:
        with self._database.transaction() as session:
            former = run_rows.added_before(session, run, idempotency_key, trial)
            if former is not None:
                return run_rows.as_run(session, former)
            row = RunRow(
                id=run.id,
                owner=run.owner,
                name=run.name,
                kind=run.kind.value,
                parent=run.parent,
                trial=trial,
                idempotency_key=idempotency_key,
                state=run.state.value,
                reason=run.reason,
                attempt=run.attempt,
                spec=run.model_dump(mode="json", include=_SPEC),
                created_at=run.created_at,
                started_at=run.started_at,
                cancel_requested=False,
                last_metrics={},
                usage=[],
                metrics_base=0,
                metrics_count=0,
                log_base=0,
            )
            session.add(row)
            session.flush()
            return run_rows.as_run(session, row)

    def get(self, run_id: str) -> Run | None:
        with self._database.reading() as session:
            row = run_rows.find(session, run_id)
            return None if row is None else run_rows.as_run(session, row)

    def page(self, owner: str, which: RunFilter, cursor: str | None, limit: int) -> Page[Run]:
        query = select(RunRow).where(RunRow.owner == owner)
        if which.parent is not None:
            query = query.where(RunRow.parent == which.parent)
        elif which.kind is None:
            query = query.where(RunRow.kind != RunKind.TRIAL)
        if which.kind is not None:
            query = query.where(RunRow.kind == which.kind)
        if which.states:
            query = query.where(RunRow.state.in_(which.states))
        if which.name is not None:
            query = query.where(RunRow.name == which.name)
        with self._database.reading() as session:
            return select_page(
                session,
                query,
                RunRow.number,
                cursor,
                limit,
                lambda row: run_rows.as_run(session, row),
            )

    def started(self) -> Sequence[LiveRun]:
        query = (
            select(RunRow)
            .where(
                RunRow.kind != RunKind.TRIAL,
                RunRow.state.in_(_LIVE),
                or_(RunRow.state != RunState.QUEUED, RunRow.cancel_requested),
            )
            .order_by(RunRow.number)
        )
        with self._database.reading() as session:
            return [run_rows.live(session, row) for row in session.scalars(query)]

    def live(self, run_id: str) -> LiveRun | None:
        with self._database.reading() as session:
            row = run_rows.find(session, run_id)
            return run_rows.live(session, row) if row is not None and row.state in _LIVE else None

    def contenders(self) -> Sequence[Contender]:
        # Out of the middle of the JSON: all of it, with the sources, would be read at each look.
        spec = RunRow.spec
        query = (
            select(
                RunRow.id,
                RunRow.owner,
                RunRow.number,
                RunRow.state,
                RunRow.reason,
                RunRow.created_at,
                spec["priority"].as_string(),
                spec[("resources", "workers")].as_integer(),
                spec[("resources", "cpus_per_worker")].as_float(),
                spec[("resources", "gpus_per_worker")].as_float(),
                spec[("sweep", "concurrency")].as_integer(),
                RunRow.name,
                RunRow.started_at,
                spec["time_limit"].as_float(),
            )
            .where(
                RunRow.kind != RunKind.TRIAL,
                RunRow.state.in_(_LIVE),
                or_(RunRow.state != RunState.QUEUED, RunRow.cancel_requested.is_(False)),
            )
            .order_by(RunRow.number)
        )
        with self._database.reading() as session:
            return [run_rows.contender(*row) for row in session.execute(query)]

    def last_starts(self, since: datetime) -> dict[str, datetime]:
        query = (
            select(RunRow.owner, func.max(RunRow.submitted_at))
            .where(RunRow.submitted_at > since, RunRow.kind != RunKind.TRIAL)
            .group_by(RunRow.owner)
        )
        with self._database.reading() as session:
            return {owner: at for owner, at in session.execute(query) if at is not None}

    def start_times(self, limit: int, warm: bool | None = None) -> Sequence[timedelta]:
        query = (
            select(RunRow.submitted_at, RunRow.started_at)
            .where(
                RunRow.submitted_at.is_not(None),
                RunRow.started_at > RunRow.submitted_at,
                RunRow.kind == RunKind.TRAIN,
            )
            .order_by(RunRow.submitted_at.desc())
            .limit(limit)
        )
        if warm is not None:
            query = query.where(RunRow.warm.is_(warm))
        with self._database.reading() as session:
            return [
                started - submitted
                for submitted, started in session.execute(query)
                if submitted is not None and started is not None
            ]

    def past(self, limit: int) -> Sequence[Past]:
        query = (
            select(RunRow.owner, RunRow.name, RunRow.started_at, RunRow.finished_at)
            .where(
                RunRow.kind != RunKind.TRIAL,
                RunRow.state.in_(_TERMINAL),
                RunRow.started_at.is_not(None),
                RunRow.finished_at.is_not(None),
            )
            .order_by(RunRow.number.desc())
            .limit(limit)
        )
        with self._database.reading() as session:
            return [
                Past(owner, name, max(0.0, (finished - started).total_seconds()))
                for owner, name, started, finished in session.execute(query)
                if started is not None and finished is not None
            ]

    def unparented(self) -> Sequence[tuple[LiveRun, Run | None]]:
        with self._database.reading() as session:
            return [
                (
                    run_rows.live(session, trial),
                    None if sweep.state in _LIVE else run_rows.as_run(session, sweep),
                )
                for trial, sweep in session.execute(_UNPARENTED)
            ]

    def count_live(self, owner: str) -> int:
        query = select(func.count()).where(
            RunRow.owner == owner, RunRow.state.in_(_LIVE), RunRow.kind != RunKind.TRIAL
        )
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def count_queued(self, owner: str) -> int:
        query = select(func.count()).where(RunRow.owner == owner, RunRow.state == RunState.QUEUED)
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def transition(
        self,
        run_id: str,
        attempt: int,
        expected: Sequence[RunState],
        new: RunState,
        *,
        next_attempt: int | None = None,
        **values: Any,
    ) -> Run | None:
        with self._database.transaction() as session:
            row = run_rows.find(session, run_id)
            if row is None or row.attempt != attempt or row.state not in expected:
                return None
            check_run_transition(RunState(row.state), new)
            row.state = new.value
            for column, value in values.items():
                setattr(row, column, value)
            if next_attempt is not None:
                row.attempt = next_attempt
                row.metrics_base = metrics.next_index(session, row.number)
            return run_rows.as_run(session, row)

    def update(self, run_id: str, attempt: int, **values: Any) -> None:
        with self._database.transaction() as session:
            row = run_rows.find(session, run_id)
            if row is not None and row.attempt == attempt and row.state in _LIVE:
                for column, value in values.items():
                    setattr(row, column, value)

    def append_metrics(
        self,
        run_id: str,
        attempt: int,
        sequence: int,
        points: Sequence[MetricPoint],
        progress: Progress | None = None,
    ) -> bool:
        with self._database.transaction() as session:
            row = run_rows.find(session, run_id)
            if row is None or row.attempt != attempt or row.state not in _LIVE:
                return False
            if progress is not None:
                row.progress = progress.model_dump()
            added = metrics.append(session, row.number, row.metrics_base + sequence, points)
            merged: dict[str, Any] = dict(row.last_metrics)
            for point in added:
                # As JSON: it has no NaN, and PostgreSQL's neither.
                merged.update(point.model_dump(mode="json")["values"])
            # One that holds nothing takes its place too.
            row.metrics_count += sum(max(1, len(point.values)) for point in added)
            if len(merged) > MAX_METRIC_NAMES or row.metrics_count > MAX_METRIC_VALUES:
                raise TooLarge(
                    f"A run keeps at most {MAX_METRIC_NAMES} metrics and "
                    f"{MAX_METRIC_VALUES:,} values in all.",
                    remedy="Report less often, or fewer of them.",
                )
            row.last_metrics = merged
            return True

    def metrics(self, run_id: str, since: int, limit: int) -> tuple[Sequence[MetricPoint], int]:
        with self._database.reading() as session:
            row = run_rows.find(session, run_id)
            return ([], since) if row is None else metrics.read(session, row.number, since, limit)

    def curves(self, run_id: str) -> tuple[dict[str, Curve], int]:
        with self._database.reading() as session:
            row = run_rows.find(session, run_id)
            if row is None:
                return {}, 0
            # The end first: points that come between the two are then read again, never missed.
            end = metrics.next_index(session, row.number)
            return metrics.curves(session, row.number), end

    def add_usage(
        self, run_id: str, attempt: int, samples: Sequence[WorkerUsage], at: datetime
    ) -> bool:
        with self._database.transaction() as session:
            row = run_rows.find(session, run_id)
            if row is None or row.attempt != attempt or row.state not in _LIVE:
                return False
            latest = {sample["worker"]: sample for sample in row.usage}
            latest.update({one.worker: one.model_dump(mode="json") for one in samples})
            row.usage = [latest[worker] for worker in sorted(latest)]
            row.used_at = at
            return True

    def set_made(self, run_id: str, attempt: int, datasets: Sequence[PinnedDataset]) -> None:
        with self._database.transaction() as session:
            row = run_rows.find(session, run_id)
            if row is not None and row.attempt == attempt and row.state in _LIVE:
                row.spec = {**row.spec, "made": [one.model_dump() for one in datasets]}

    def add_event_files(self, run_id: str, files: EventFiles) -> bool:
        with self._database.transaction() as session:
            row = run_rows.find(session, run_id)
            if row is None or row.attempt != files.attempt or row.state not in _LIVE:
                return False
            kept = {(one["attempt"], one["worker"]): one for one in row.spec.get("event_files", ())}
            kept[files.attempt, files.worker] = files.model_dump()
            row.spec = {**row.spec, "event_files": [kept[key] for key in sorted(kept)]}
            return True

    def log_base(self, run_id: str, attempt: int) -> int | None:
        """Byte at which this attempt's log begins; None unless it is a live run's current one."""
        with self._database.reading() as session:
            row = run_rows.find(session, run_id)
            if row is None or row.attempt != attempt or row.state not in _LIVE:
                return None
            return row.log_base
