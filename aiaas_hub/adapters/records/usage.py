"""Spans of use, and who is in which group.

Runs and endpoints are metered where their rows change: `meter` looks at every flush for one that
begins or ceases to hold something, and writes its span in that very transaction. So there is no
run without a span and no span without its run, whatever is killed when.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, func, inspect, or_, select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.tables import (
    DatasetRow,
    DatasetVersionRow,
    EndpointRow,
    EndpointVersionRow,
    MemberRow,
    ModelRow,
    ModelVersionRow,
    RunRow,
    UsageRow,
)
from aiaas_hub.domain.usage import Rating, Span
from aiaas_hub.schemas.endpoints import EndpointState
from aiaas_hub.schemas.runs import Resources, RunKind, RunState
from aiaas_hub.schemas.usage import UsageKind

_GROUPS_KEPT_SECONDS = 5.0
_RUN_HOLDS = {RunState.STARTING.value, RunState.RUNNING.value}
_ENDPOINT_HOLDS = {EndpointState.CANARY.value, EndpointState.SERVING.value}


def meter(database: Database, rating: Rating, endpoint_price: float) -> None:
    """From now on what this database's sessions start and end is metered."""

    def before_flush(session: Session, _context: Any, _instances: Any) -> None:
        for row in [*session.new, *session.dirty]:
            if isinstance(row, RunRow) and row.kind != RunKind.TRIAL:
                # A trial runs on what its sweep holds.
                _meter_run(session, row, rating)
            elif isinstance(row, EndpointVersionRow):
                _meter_endpoint(session, row, endpoint_price)

    event.listen(database.sessions, "before_flush", before_flush)


def _change(row: Any, holds: set[str]) -> bool | None:
    """True: it begins to hold; False: it ceases to; None: neither."""
    history = inspect(row).attrs.state.history
    if not history.has_changes():
        return None
    held, is_held = bool(set(history.deleted or ()) & holds), row.state in holds
    return None if held == is_held else is_held


def _meter_run(session: Session, row: RunRow, rating: Rating) -> None:
    change = _change(row, _RUN_HOLDS)
    if change is None:
        return
    # The attempt that held it: a new one may begin in the same breath.
    attempt = (inspect(row).attrs.attempt.history.deleted or [row.attempt])[0]
    identity, now = f"run/{row.id}-{attempt}", datetime.now(UTC)
    span = session.get(UsageRow, identity)
    if change and span is None:
        resources = Resources.model_validate(row.spec["resources"])
        concurrency = (row.spec.get("sweep") or {}).get("concurrency") or 1
        rate = rating(resources, concurrency)
        workers = resources.workers * concurrency
        session.add(
            UsageRow(
                id=identity,
                kind=UsageKind.RUN.value,
                subject=row.id,
                owner=row.owner,
                profile=rate.profile,
                workers=workers,
                cpus=workers * resources.cpus_per_worker,
                gpus=workers * resources.gpus_per_worker,
                price_per_hour=rate.price_per_hour,
                started_at=now,
            )
        )
    elif not change and span is not None and span.ended_at is None:
        # Nobody pays for the time in which nothing was heard of what was lost.
        heard = row.used_at or span.started_at
        lost = row.state == RunState.LOST or row.unseen_since is not None
        span.ended_at = max(span.started_at, min(now, heard) if lost else now)


def _meter_endpoint(session: Session, row: EndpointVersionRow, price: float) -> None:
    change = _change(row, _ENDPOINT_HOLDS)
    if change is None:
        return
    identity, now = f"endpoint/{row.endpoint_id}-{row.version}", datetime.now(UTC)
    span = session.get(UsageRow, identity)
    if change and span is None:
        endpoint = session.get_one(EndpointRow, row.endpoint_id)
        session.add(
            UsageRow(
                id=identity,
                kind=UsageKind.ENDPOINT.value,
                subject=f"{endpoint.owner}/{endpoint.name}",
                owner=endpoint.owner,
                profile="",
                workers=0,
                cpus=0,
                gpus=0,
                price_per_hour=price,
                started_at=now,
            )
        )
    elif not change and span is not None and span.ended_at is None:
        span.ended_at = now


class SqlUsageRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def spans(self, owners: Sequence[str] | None, since: datetime) -> Sequence[Span]:
        query = select(UsageRow).where(or_(UsageRow.ended_at.is_(None), UsageRow.ended_at > since))
        if owners is not None:
            query = query.where(UsageRow.owner.in_(owners))
        with self._database.reading() as session:
            return [_span(row) for row in session.scalars(query)]

    def storage(self, owner: str) -> int:
        data = (
            select(DatasetVersionRow.digest, func.max(DatasetVersionRow.size).label("size"))
            .join(DatasetRow, DatasetRow.id == DatasetVersionRow.dataset_id)
            .where(DatasetRow.owner == owner)
            .group_by(DatasetVersionRow.digest)
            .subquery()
        )
        models = (
            select(ModelVersionRow.onnx, func.max(ModelVersionRow.size).label("size"))
            .join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
            .where(ModelRow.owner == owner)
            .group_by(ModelVersionRow.onnx)
            .subquery()
        )
        with self._database.reading() as session:
            return sum(
                int(session.scalar(select(func.sum(table.c.size))) or 0) for table in (data, models)
            )

    def open_server(
        self, server: str, owner: str, profile: str, cpus: float, gpus: float, price: float,
        at: datetime,
    ) -> None:  # fmt: skip
        """A repeat changes nothing; an earlier start that was never ended is ended."""
        identity = f"server/{server}/{at.isoformat()}"[:300]
        with self._database.transaction() as session:
            if session.get(UsageRow, identity) is not None:
                return
            for former in _open_servers(session, server):
                former.ended_at = former.seen_at or former.started_at
            session.add(
                UsageRow(
                    id=identity,
                    kind=UsageKind.SERVER.value,
                    subject=server,
                    owner=owner,
                    profile=profile,
                    workers=0,
                    cpus=cpus,
                    gpus=gpus,
                    price_per_hour=price,
                    started_at=at,
                    seen_at=at,
                )
            )

    def close_server(self, server: str, at: datetime) -> None:
        with self._database.transaction() as session:
            for span in _open_servers(session, server):
                span.ended_at = max(span.started_at, at)

    def note_servers(self, running: Sequence[str], at: datetime) -> None:
        """What the hub says of servers now: those that it does not know any more ended when they
        were last seen."""
        with self._database.transaction() as session:
            for span in _open_servers(session):
                if span.subject in running:
                    span.seen_at = at
                elif at - (span.seen_at or span.started_at) > timedelta(minutes=2):
                    span.ended_at = span.seen_at or span.started_at


class SqlMembers:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: tuple[float, Mapping[str, frozenset[str]]] | None = None

    def groups(self) -> Mapping[str, frozenset[str]]:
        # The queue asks for each user at each look; another service may have written meanwhile.
        if self._read is None or time.monotonic() - self._read[0] > _GROUPS_KEPT_SECONDS:
            with self._database.reading() as session:
                rows = session.scalars(select(MemberRow))
                self._read = time.monotonic(), {row.user: frozenset(row.groups) for row in rows}
        return self._read[1]

    def replace(self, groups: Mapping[str, Sequence[str]]) -> None:
        """What the hub says now, of everybody."""
        self._read = None
        with self._database.transaction() as session:
            known = {row.user: row for row in session.scalars(select(MemberRow))}
            for user, row in known.items():
                if user not in groups:
                    session.delete(row)
            for user, theirs in groups.items():
                if user not in known:
                    session.add(MemberRow(user=user, groups=sorted(theirs)))
                elif known[user].groups != sorted(theirs):
                    known[user].groups = sorted(theirs)


def _open_servers(session: Session, server: str | None = None) -> Sequence[UsageRow]:
    query = select(UsageRow).where(UsageRow.kind == "server", UsageRow.ended_at.is_(None))
    if server is not None:
        query = query.where(UsageRow.subject == server)
    return session.scalars(query).all()


def _span(row: UsageRow) -> Span:
    return Span(
        kind=UsageKind(row.kind),
        subject=row.subject,
        owner=row.owner,
        profile=row.profile,
        workers=row.workers,
        cpus=row.cpus,
        gpus=row.gpus,
        price_per_hour=row.price_per_hour,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
