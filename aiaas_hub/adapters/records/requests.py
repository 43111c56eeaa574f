"""Records of requests that carried an idempotency key."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.tables import RequestRow

KEPT = timedelta(days=1)


class SqlRequestRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, user: str, address: str, key: str, body: str, now: datetime) -> bool:
        with self._database.transaction() as session:
            session.execute(delete(RequestRow).where(RequestRow.created_at < now - KEPT))
            former = session.scalar(
                select(RequestRow.body).where(
                    RequestRow.user == user, RequestRow.address == address, RequestRow.key == key
                )
            )
            if former is None:
                session.add(
                    RequestRow(user=user, address=address, key=key, body=body, created_at=now)
                )
            return former is None or former == body
