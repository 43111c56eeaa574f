"""Records of uploads and datasets."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.pages import select_page
from aiaas_hub.adapters.records.tables import BlobGrantRow, DatasetRow, DatasetVersionRow
from aiaas_hub.schemas.datasets import Column, Dataset, DatasetVersion, Origin
from aiaas_hub.schemas.paging import Page


class SqlBlobGrants:
    def __init__(self, database: Database) -> None:
        self._database = database

    def grant(self, owner: str, digest: str) -> None:
        with self._database.transaction() as session:
            if session.get(BlobGrantRow, (digest, owner)) is None:
                session.add(BlobGrantRow(digest=digest, owner=owner))

    def granted(self, owner: str, digest: str) -> bool:
        with self._database.reading() as session:
            return session.get(BlobGrantRow, (digest, owner)) is not None


class SqlDatasetRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, owner: str, name: str, version: int | None = None) -> Dataset | None:
        with self._database.reading() as session:
            row = _find(session, owner, name)
            if row is None:
                return None
            found = session.get(DatasetVersionRow, (row.id, version or row.latest_version))
            return None if found is None else as_dataset(row, found)

    def page(self, owner: str, pattern: str, cursor: str | None, limit: int) -> Page[Dataset]:
        query = select(DatasetRow).where(DatasetRow.owner == owner)
        if pattern:
            query = query.where(DatasetRow.name.ilike(_like(pattern), escape="\\"))
        with self._database.reading() as session:
            return select_page(
                session,
                query,
                DatasetRow.id,
                cursor,
                limit,
                lambda row: as_dataset(
                    row, session.get_one(DatasetVersionRow, (row.id, row.latest_version))
                ),
            )

    def add_version(
        self,
        owner: str,
        name: str,
        description: str,
        version: DatasetVersion,
        idempotency_key: str | None,
    ) -> Dataset:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            row = _find(session, owner, name)
            if row is None:
                row = DatasetRow(
                    owner=owner,
                    name=name,
                    description=description,
                    created_at=now,
                    updated_at=now,
                    latest_version=0,
                )
                session.add(row)
                session.flush()
            else:
                former = (
                    idempotency_key
                    and session.scalars(
                        select(DatasetVersionRow).where(
                            DatasetVersionRow.dataset_id == row.id,
                            DatasetVersionRow.idempotency_key == idempotency_key,
                        )
                    ).one_or_none()
                )
                if former:
                    return as_dataset(row, former)
                newest = session.get_one(DatasetVersionRow, (row.id, row.latest_version))
                if description:
                    row.description = description
                if newest.digest == version.digest:
                    return as_dataset(row, newest)
            row.latest_version += 1
            row.updated_at = now
            added = DatasetVersionRow(
                dataset_id=row.id,
                version=row.latest_version,
                idempotency_key=idempotency_key,
                created_at=now,
                format=version.format,
                digest=version.digest,
                size=version.size,
                rows=version.rows,
                columns=[column.model_dump() for column in version.columns],
                source=version.source,
                origin=None if version.origin is None else version.origin.model_dump(mode="json"),
            )
            session.add(added)
            return as_dataset(row, added)


def _find(session: Session, owner: str, name: str) -> DatasetRow | None:
    return session.scalars(
        select(DatasetRow).where(DatasetRow.owner == owner, DatasetRow.name == name)
    ).one_or_none()


def as_dataset(row: DatasetRow, version: DatasetVersionRow) -> Dataset:
    return Dataset(
        owner=row.owner,
        name=row.name,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        latest=DatasetVersion(
            version=version.version,
            created_at=version.created_at,
            format=version.format,
            digest=version.digest,
            size=version.size,
            rows=version.rows,
            columns=[Column.model_validate(column) for column in version.columns],
            source=version.source,
            origin=None if version.origin is None else Origin.model_validate(version.origin),
        ),
    )


def _like(pattern: str) -> str:
    """Shell wildcards in SQL's spelling; a pattern with none matches anywhere in the name."""
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    if "*" not in pattern and "?" not in pattern:
        return f"%{escaped}%"
    return escaped.replace("*", "%").replace("?", "_")
