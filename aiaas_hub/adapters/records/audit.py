"""The audit log's records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.pages import select_page
from aiaas_hub.adapters.records.tables import AuditRow
from aiaas_hub.domain.auditing import GENESIS, Act, AuditFilter, Head, make_entry
from aiaas_hub.schemas.audit import AuditEntry
from aiaas_hub.schemas.errors import DiskFull, Unavailable
from aiaas_hub.schemas.paging import Page


class SqlAuditRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, act: Act, *, once: bool = False) -> AuditEntry | None:
        # One writer at a time: between reading the head and adding to it nobody else adds. Should
        # that ever fail, the number is the primary key, so that the second one is refused.
        try:
            with self._database.transaction() as session:
                if once and _is_there(session, act):
                    return None
                entry = make_entry(act, _head(session), datetime.now(UTC))
                session.add(AuditRow(**entry.model_dump()))
                return entry
        except DiskFull:
            raise
        except (DBAPIError, Unavailable) as error:
            raise Unavailable(
                "The audit log cannot be written to right now, so nothing was done.",
                remedy="Try again in a moment; if it stays, tell whoever runs the platform.",
            ) from error

    def page(self, which: AuditFilter, cursor: str | None, limit: int) -> Page[AuditEntry]:
        query = select(AuditRow)
        for column, value in (
            (AuditRow.owner, which.owner),
            (AuditRow.actor, which.actor),
            (AuditRow.act, which.act),
            (AuditRow.outcome, which.outcome),
        ):
            if value is not None:
                query = query.where(column == str(value))
        if which.object is not None:
            query = query.where(AuditRow.object.startswith(which.object, autoescape=True))
        if which.since is not None:
            query = query.where(AuditRow.at >= which.since)
        if which.until is not None:
            query = query.where(AuditRow.at < which.until)
        with self._database.reading() as session:
            return select_page(session, query, AuditRow.number, cursor, limit, _entry)

    def following(self, number: int, limit: int) -> Sequence[AuditEntry]:
        query = (
            select(AuditRow).where(AuditRow.number > number).order_by(AuditRow.number).limit(limit)
        )
        with self._database.reading() as session:
            return [_entry(row) for row in session.scalars(query)]


def _head(session: Session) -> Head:
    last = session.execute(
        select(AuditRow.number, AuditRow.hash).order_by(AuditRow.number.desc()).limit(1)
    ).one_or_none()
    return Head(0, GENESIS) if last is None else Head(last.number, last.hash)


def _is_there(session: Session, act: Act) -> bool:
    query = select(AuditRow.number).where(
        AuditRow.request_id == act.request_id, AuditRow.act == act.act
    )
    return session.scalars(query.limit(1)).first() is not None


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry.model_validate(row, from_attributes=True)
