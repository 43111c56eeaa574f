"""Records of runs and their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.pages import select_page
from aiaas_hub.adapters.records.tables import MetricRow, ModelRow, ModelVersionRow, RunRow
from aiaas_hub.domain.records import LiveRun
from aiaas_hub.domain.states import check_run_transition
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.runs import MetricPoint, Run, RunError, RunState

_LIVE = [state.value for state in RunState if not state.is_terminal]
_SPEC = {"snapshot", "datasets", "params", "resources", "retries"}


class SqlRunRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: Run, idempotency_key: str | None) -> Run:
        with self._database.transaction() as session:
            if idempotency_key is not None:
                former = session.scalars(
                    select(RunRow).where(
                        RunRow.owner == run.owner, RunRow.idempotency_key == idempotency_key
                    )
                ).one_or_none()
                if former is not None:
                    return _run(session, former)
            row = RunRow(
                id=run.id,
                owner=run.owner,
                name=run.name,
                idempotency_key=idempotency_key,
                state=run.state.value,
                reason=run.reason,
                attempt=run.attempt,
                spec=run.model_dump(mode="json", include=_SPEC),
                created_at=run.created_at,
                cancel_requested=False,
                last_metrics={},
                metrics_base=0,
                log_base=0,
            )
            session.add(row)
            session.flush()
            return _run(session, row)

    def get(self, run_id: str) -> Run | None:
        with self._database.reading() as session:
            row = _find(session, run_id)
            return None if row is None else _run(session, row)

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Run]:
        query = select(RunRow).where(RunRow.owner == owner)
        with self._database.reading() as session:
            return select_page(
                session, query, RunRow.number, cursor, limit, lambda row: _run(session, row)
            )

    def live(self) -> Sequence[LiveRun]:
        query = select(RunRow).where(RunRow.state.in_(_LIVE)).order_by(RunRow.number)
        with self._database.reading() as session:
            return [
                LiveRun(
                    run=_run(session, row),
                    submitted_at=row.submitted_at,
                    cancel_requested=row.cancel_requested,
                    ended_at=row.ended_at,
                )
                for row in session.scalars(query)
            ]

    def count_live(self, owner: str) -> int:
        query = select(func.count()).where(RunRow.owner == owner, RunRow.state.in_(_LIVE))
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
            row = _find(session, run_id)
            if row is None or row.attempt != attempt or row.state not in expected:
                return None
            check_run_transition(RunState(row.state), new)
            row.state = new.value
            for column, value in values.items():
                setattr(row, column, value)
            if next_attempt is not None:
                row.attempt = next_attempt
                row.metrics_base = _next_index(session, row.number)
            return _run(session, row)

    def update(self, run_id: str, attempt: int, **values: Any) -> None:
        with self._database.transaction() as session:
            row = _find(session, run_id)
            if row is not None and row.attempt == attempt and row.state in _LIVE:
                for column, value in values.items():
                    setattr(row, column, value)

    def append_metrics(
        self, run_id: str, attempt: int, sequence: int, points: Sequence[MetricPoint]
    ) -> bool:
        with self._database.transaction() as session:
            row = _find(session, run_id)
            if row is None or row.attempt != attempt or row.state not in _LIVE:
                return False
            if not points:
                return True
            rows = [
                {
                    "run_number": row.number,
                    "index": row.metrics_base + sequence + position,
                    # As JSON: PostgreSQL's has no NaN either.
                    **point.model_dump(mode="json"),
                }
                for position, point in enumerate(points)
            ]
            dialect = session.get_bind().dialect.name
            insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
            # A repeated batch is harmless: its points are there already.
            session.execute(insert(MetricRow).on_conflict_do_nothing(), rows)
            merged: dict[str, Any] = dict(row.last_metrics)
            for added in rows:
                merged.update(added["values"])
            row.last_metrics = merged
            return True

    def metrics(self, run_id: str, since: int, limit: int) -> tuple[Sequence[MetricPoint], int]:
        with self._database.reading() as session:
            row = _find(session, run_id)
            if row is None:
                return [], since
            found = session.scalars(
                select(MetricRow)
                .where(MetricRow.run_number == row.number, MetricRow.index >= since)
                .order_by(MetricRow.index)
                .limit(limit)
            ).all()
            points = [MetricPoint.model_validate(point, from_attributes=True) for point in found]
            return points, found[-1].index + 1 if found else since

    def log_base(self, run_id: str, attempt: int) -> int | None:
        """Byte at which this attempt's log begins; None unless it is a live run's current one."""
        with self._database.reading() as session:
            row = _find(session, run_id)
            if row is None or row.attempt != attempt or row.state not in _LIVE:
                return None
            return row.log_base


def _find(session: Session, run_id: str) -> RunRow | None:
    return session.scalars(select(RunRow).where(RunRow.id == run_id)).one_or_none()


def _next_index(session: Session, run_number: int) -> int:
    highest = session.scalar(
        select(func.max(MetricRow.index)).where(MetricRow.run_number == run_number)
    )
    return 0 if highest is None else highest + 1


def _run(session: Session, row: RunRow) -> Run:
    model = session.execute(
        select(ModelRow.owner, ModelRow.name, ModelVersionRow.version)
        .join(ModelVersionRow, ModelVersionRow.model_id == ModelRow.id)
        .where(ModelVersionRow.run_id == row.id)
        # A retried run may have handed over more than one: the last is its model.
        .order_by(ModelVersionRow.version.desc())
        .limit(1)
    ).one_or_none()
    return Run(
        id=row.id,
        owner=row.owner,
        name=row.name,
        state=RunState(row.state),
        reason=row.reason,
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        model=None
        if model is None
        else PinnedModel(owner=model.owner, name=model.name, version=model.version),
        error=None if row.error is None else RunError.model_validate(row.error),
        last_metrics=row.last_metrics,
        **row.spec,
    )
