"""Records of uploads and datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, delete, func, select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records import dataset_pages
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.page_cache import PageCache
from aiaas_hub.adapters.records.pages import before_cursor
from aiaas_hub.adapters.records.tables import (
    BlobGrantRow,
    DatasetRow,
    DatasetTagRow,
    DatasetTermRow,
    DatasetVersionRow,
)
from aiaas_hub.domain.dataset_records import DatasetFilter
from aiaas_hub.domain.search import terms_of
from aiaas_hub.schemas.datasets import (
    LATEST,
    Dataset,
    DatasetUpdate,
    DatasetVersion,
)
from aiaas_hub.schemas.paging import DEFAULT_PAGE, Page

_CACHED_PAGES = 256


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
        self._pages: PageCache[Page[Dataset]] = PageCache(
            lambda: database.dataset_changes, _CACHED_PAGES
        )

    def get(self, owner: str, name: str, version: int | str | None = None) -> Dataset | None:
        with self._database.reading() as session:
            row = _find(session, owner, name)
            if row is None:
                return None
            number = _number(session, row, version)
            found = None if number is None else session.get(DatasetVersionRow, (row.id, number))
            if found is None:
                return None
            return as_dataset(row, found, _tags(session, [row.id]).get((row.id, number or 0), ()))

    def page(self, which: DatasetFilter, cursor: str | None, limit: int) -> Page[Dataset]:
        def read() -> Page[Dataset]:
            with self._database.reading() as session:
                return dataset_pages.page(session, which, cursor, limit)

        if limit > DEFAULT_PAGE:
            return read()
        # Who asks is a part of it: a page is what they may read.
        return self._pages.get((replace(which, words=tuple(which.words)), cursor, limit), read)

    def versions(
        self, owner: str, name: str, cursor: str | None, limit: int
    ) -> Page[DatasetVersion]:
        with self._database.reading() as session:
            row = _find(session, owner, name)
            if row is None:
                return Page(items=[])
            query = select(DatasetVersionRow).where(DatasetVersionRow.dataset_id == row.id)
            found = session.scalars(
                before_cursor(query, DatasetVersionRow.version, cursor)
                .order_by(DatasetVersionRow.version.desc())
                .limit(limit + 1)
            ).all()
            tags = _tags(session, [row.id])
            kept = found[:limit]
            return Page(
                items=[_version(one, tags.get((row.id, one.version), ())) for one in kept],
                next_cursor=str(kept[-1].version) if len(found) > limit else None,
            )

    def add_version(
        self,
        owner: str,
        name: str,
        description: str,
        version: DatasetVersion,
        idempotency_key: str | None,
    ) -> Dataset:
        with self._database.transaction() as session:
            return _add(session, owner, name, description, version, idempotency_key)

    def add_versions(
        self, owner: str, versions: Mapping[str, DatasetVersion], idempotency_key: str
    ) -> list[Dataset]:
        with self._database.transaction() as session:
            return [
                _add(session, owner, name, "", version, idempotency_key)
                for name, version in versions.items()
            ]

    def update(self, owner: str, name: str, change: DatasetUpdate) -> Dataset | None:
        with self._database.transaction() as session:
            row = _find(session, owner, name)
            number = 0 if row is None else row.latest_version
            found = None if row is None else session.get(DatasetVersionRow, (row.id, number))
            if row is None or found is None:
                return None
            if change.description is not None:
                row.description = change.description
            if change.licence is not None:
                row.licence = change.licence
            if change.tags is not None:
                row.tags = list(dict.fromkeys(change.tags))
            if change.visibility is not None:
                row.visibility, row.shared_group = change.visibility, change.group
            _index(session, row, found.columns)
            tags = _tags(session, [row.id]).get((row.id, found.version), ())
            return as_dataset(row, found, tags)

    def set_tag(self, owner: str, name: str, tag: str, version: int | None) -> bool:
        with self._database.transaction() as session:
            row = _find(session, owner, name)
            if row is None:
                return False
            former = session.get(DatasetTagRow, (row.id, tag))
            if version is None:
                if former is not None:
                    session.delete(former)
                return former is not None
            found = session.get(DatasetVersionRow, (row.id, version))
            if found is None or found.retired_at is not None:
                return False
            if former is None:
                session.add(DatasetTagRow(dataset_id=row.id, tag=tag, version=version))
            else:
                former.version = version
            return True

    def retire(
        self, owner: str, name: str, version: int, at: datetime | None
    ) -> DatasetVersion | None:
        with self._database.transaction() as session:
            row = _find(session, owner, name)
            found = None if row is None else session.get(DatasetVersionRow, (row.id, version))
            if row is None or found is None or found.collected_at is not None:
                return None
            found.retired_at = (found.retired_at or at) if at is not None else None
            if at is not None:
                # A tag names something that can be used.
                session.execute(
                    delete(DatasetTagRow).where(
                        DatasetTagRow.dataset_id == row.id, DatasetTagRow.version == version
                    )
                )
            session.flush()
            row.latest_version = (
                session.scalar(
                    select(func.max(DatasetVersionRow.version)).where(
                        DatasetVersionRow.dataset_id == row.id,
                        DatasetVersionRow.retired_at.is_(None),
                    )
                )
                or 0
            )
            return _version(found, _tags(session, [row.id]).get((row.id, version), ()))


def _add(
    session: Session,
    owner: str,
    name: str,
    description: str,
    version: DatasetVersion,
    idempotency_key: str | None,
) -> Dataset:
    now = datetime.now(UTC)
    row = _find(session, owner, name)
    if row is None:
        row = DatasetRow(
            owner=owner,
            name=name,
            description=description,
            licence="",
            tags=[],
            visibility="private",
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
        newest = session.get(DatasetVersionRow, (row.id, row.latest_version))
        if description:
            row.description = description
            _index(session, row, [] if newest is None else newest.columns)
        if newest is not None and newest.digest == version.digest:
            return as_dataset(row, newest)
    highest = session.scalar(
        select(func.max(DatasetVersionRow.version)).where(DatasetVersionRow.dataset_id == row.id)
    )
    # A number is never given twice, whatever was retired.
    row.latest_version = (highest or 0) + 1
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
    _index(session, row, added.columns)
    return as_dataset(row, added)


def _find(session: Session, owner: str, name: str) -> DatasetRow | None:
    return session.scalars(
        select(DatasetRow).where(DatasetRow.owner == owner, DatasetRow.name == name)
    ).one_or_none()


def _number(session: Session, row: DatasetRow, version: int | str | None) -> int | None:
    if version is None or version == LATEST:
        return row.latest_version or None
    if isinstance(version, int):
        return version
    tag = session.get(DatasetTagRow, (row.id, version))
    return None if tag is None else tag.version


def _tags(session: Session, datasets: Iterable[int]) -> dict[tuple[int, int], list[str]]:
    """The tags of versions, by dataset and version."""
    found: dict[tuple[int, int], list[str]] = {}
    query = select(DatasetTagRow).where(DatasetTagRow.dataset_id.in_(list(datasets)))
    for row in session.scalars(query.order_by(DatasetTagRow.tag)):
        found.setdefault((row.dataset_id, row.version), []).append(row.tag)
    return found


def _index(session: Session, row: DatasetRow, columns: Sequence[Any]) -> None:
    """Write anew by which words the dataset is found."""
    session.execute(delete(DatasetTermRow).where(DatasetTermRow.dataset_id == row.id))
    names = [column["name"] for column in columns]
    session.add_all(
        DatasetTermRow(term=term, dataset_id=row.id, kind=kind)
        for term, kind in terms_of(row.owner, row.name, names, row.tags, row.description)
    )


def as_dataset(
    row: DatasetRow | Row[Any],
    version: DatasetVersionRow | Row[Any],
    tags: Sequence[str] = (),
) -> Dataset:
    return Dataset.model_validate(
        {
            "owner": row.owner,
            "name": row.name,
            "description": row.description,
            "licence": row.licence,
            "tags": row.tags,
            "visibility": row.visibility,
            "group": row.shared_group,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "latest": _version(version, tags),
        }
    )


def _version(row: DatasetVersionRow | Row[Any], tags: Sequence[str]) -> DatasetVersion:
    return DatasetVersion.model_validate(
        {
            "version": row.version,
            "created_at": row.created_at,
            "format": row.format,
            "digest": row.digest,
            "size": row.size,
            "rows": row.rows,
            "columns": row.columns,
            "source": row.source,
            "origin": row.origin,
            "tags": list(tags),
            "retired": row.retired_at is not None,
        }
    )
