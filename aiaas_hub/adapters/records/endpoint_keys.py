"""Records of endpoints' keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.endpoints import required
from aiaas_hub.adapters.records.tables import EndpointRow, KeyRow
from aiaas_hub.schemas.endpoints import Key, KeyScope
from aiaas_hub.schemas.errors import Conflict
from aiaas_hub.schemas.paging import Page

MAX_KEYS = 100
"""Per endpoint, the revoked among them until they expire: each is in the gateway's routes."""


class SqlKeyRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, owner: str, name: str, key: Key, idempotency_key: str | None) -> Key:
        with self._database.transaction() as session:
            row = required(session, owner, name)
            if idempotency_key is not None:
                former = session.scalars(
                    select(KeyRow).where(
                        KeyRow.endpoint_id == row.id, KeyRow.idempotency_key == idempotency_key
                    )
                ).one_or_none()
                if former is not None:
                    return _key(row, former)
            alive = session.scalar(
                select(func.count()).where(
                    KeyRow.endpoint_id == row.id, KeyRow.expires_at > key.created_at
                )
            )
            if (alive or 0) >= MAX_KEYS:
                raise Conflict(
                    f"{name} has {MAX_KEYS} keys that have not expired.",
                    remedy="Use one of them, or give keys fewer days.",
                )
            added = KeyRow(
                id=key.id,
                endpoint_id=row.id,
                idempotency_key=idempotency_key,
                note=key.note,
                created_at=key.created_at,
                expires_at=key.expires_at,
                scope=key.scope,
                rate=key.rate,
            )
            session.add(added)
            session.flush()
            return _key(row, added)

    def page(self, owner: str, name: str, cursor: str | None, limit: int) -> Page[Key]:
        with self._database.reading() as session:
            row = required(session, owner, name)
            rows = session.scalars(
                select(KeyRow).where(KeyRow.endpoint_id == row.id).order_by(KeyRow.created_at)
            ).all()
            # A key's id has no order, so the cursor counts: keys are only ever appended.
            start = int(cursor) if cursor and cursor.isascii() and cursor.isdecimal() else 0
            page = rows[start : start + limit]
            more = start + limit < len(rows)
            return Page(
                items=[_key(row, found) for found in page],
                next_cursor=str(start + limit) if more else None,
            )

    def revoke(self, owner: str, name: str, key_id: str, at: datetime) -> Key | None:
        with self._database.transaction() as session:
            row = required(session, owner, name)
            key = session.get(KeyRow, key_id)
            if key is None or key.endpoint_id != row.id:
                return None
            key.revoked_at = key.revoked_at or at
            return _key(row, key)

    def revoked(self, owner: str, name: str, now: datetime) -> Sequence[str]:
        with self._database.reading() as session:
            row = required(session, owner, name)
            return session.scalars(
                select(KeyRow.id)
                .where(
                    KeyRow.endpoint_id == row.id,
                    KeyRow.revoked_at.is_not(None),
                    # The gateway allows clocks some seconds.
                    KeyRow.expires_at > now - timedelta(minutes=1),
                )
                .order_by(KeyRow.id)
            ).all()

    def limited(self, owner: str, name: str, now: datetime) -> Sequence[Key]:
        with self._database.reading() as session:
            row = required(session, owner, name)
            query = (
                select(KeyRow)
                .where(
                    KeyRow.endpoint_id == row.id,
                    KeyRow.revoked_at.is_(None),
                    KeyRow.rate.is_not(None),
                    KeyRow.expires_at > now,
                )
                .order_by(KeyRow.id)
            )
            return [_key(row, found) for found in session.scalars(query)]


def _key(row: EndpointRow, key: KeyRow) -> Key:
    return Key(
        id=key.id,
        endpoint=f"{row.owner}/{row.name}",
        note=key.note,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        scope=KeyScope(key.scope),
        rate=key.rate,
    )
