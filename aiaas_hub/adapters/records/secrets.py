"""Records of users' secrets, sealed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import func, select, update

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.tables import SecretRow
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.secrets import Secret


class SqlSecretRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, secret: Secret, sealed: bytes, most: int) -> Secret | None:
        with self._database.transaction() as session:
            row = session.get(SecretRow, (secret.owner, secret.name))
            if row is None:
                mine = select(func.count()).where(SecretRow.owner == secret.owner)
                if (session.scalar(mine) or 0) >= most:
                    return None
                row = SecretRow(
                    owner=secret.owner, name=secret.name, created_at=secret.created_at, used_at=None
                )
                session.add(row)
            row.kind, row.sealed, row.updated_at = secret.kind, sealed, secret.updated_at
            session.flush()
            return _secret(row)

    def get(self, owner: str, name: str) -> tuple[Secret, bytes] | None:
        with self._database.reading() as session:
            row = session.get(SecretRow, (owner, name))
            return None if row is None else (_secret(row), row.sealed)

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Secret]:
        with self._database.reading() as session:
            query = select(SecretRow).where(SecretRow.owner == owner)
            if cursor is not None:
                query = query.where(SecretRow.name > cursor)
            rows = session.scalars(query.order_by(SecretRow.name).limit(limit + 1)).all()
            more = len(rows) > limit
            return Page(
                items=[_secret(row) for row in rows[:limit]],
                next_cursor=rows[limit - 1].name if more else None,
            )

    def touch(self, owner: str, name: str, at: datetime) -> None:
        with self._database.transaction() as session:
            row = session.get(SecretRow, (owner, name))
            if row is not None:
                row.used_at = at

    def delete(self, owner: str, name: str) -> Secret | None:
        with self._database.transaction() as session:
            row = session.get(SecretRow, (owner, name))
            if row is None:
                return None
            session.delete(row)
            return _secret(row)

    def seal_anew(self, seal: Callable[[bytes], bytes]) -> tuple[int, int]:
        """Every row with what `seal` makes of it; how many, and how many it raised ValueError for.
        One that is set meanwhile stays as it is set."""
        done = failed = 0
        with self._database.reading() as session:
            rows = [(r.owner, r.name, r.sealed) for r in session.scalars(select(SecretRow))]
        for owner, name, sealed in rows:
            try:
                anew = seal(sealed)
            except ValueError:
                failed += 1
                continue
            with self._database.transaction() as session:
                session.execute(
                    update(SecretRow)
                    .where(
                        SecretRow.owner == owner,
                        SecretRow.name == name,
                        SecretRow.sealed == sealed,
                    )
                    .values(sealed=anew)
                )
            done += 1
        return done, failed


def _secret(row: SecretRow) -> Secret:
    return Secret.model_validate(
        {
            "owner": row.owner,
            "name": row.name,
            "kind": row.kind,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "used_at": row.used_at,
        }
    )
