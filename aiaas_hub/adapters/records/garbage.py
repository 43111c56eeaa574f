"""Which content nothing refers to any more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Text, cast, delete, or_, select, update
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.tables import (
    BlobGrantRow,
    DatasetRow,
    DatasetVersionRow,
    ModelVersionRow,
    RunRow,
)
from aiaas_hub.domain.dataset_records import RetiredVersion

_MANY = 100_000

_VERSIONS = select(
    DatasetRow.owner, DatasetRow.name, DatasetVersionRow.version, DatasetVersionRow.digest
).join(DatasetRow, DatasetRow.id == DatasetVersionRow.dataset_id)


class SqlGarbageRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def retired(self, before: datetime) -> Sequence[RetiredVersion]:
        return self._found(
            _VERSIONS.where(
                DatasetVersionRow.retired_at < before, DatasetVersionRow.collected_at.is_(None)
            ),
            _MANY,
        )

    def collect(self, version: RetiredVersion, now: datetime) -> bool:
        # One transaction, of which there is one at a time: no run begins to refer to it meanwhile.
        with self._database.transaction() as session:
            if _referred_to(session, version):
                return False
            row = session.scalars(
                select(DatasetVersionRow)
                .join(DatasetRow, DatasetRow.id == DatasetVersionRow.dataset_id)
                .where(
                    DatasetRow.owner == version.owner,
                    DatasetRow.name == version.name,
                    DatasetVersionRow.version == version.version,
                )
            ).one()
            if row.retired_at is None:
                # Somebody has taken it back.
                return False
            row.collected_at = now
            session.flush()
            if not _in_use(session, version.digest):
                session.execute(delete(BlobGrantRow).where(BlobGrantRow.digest == version.digest))
            return True

    def collected(self, limit: int) -> Sequence[RetiredVersion]:
        return self._found(
            _VERSIONS.where(
                DatasetVersionRow.collected_at.is_not(None), DatasetVersionRow.removed_at.is_(None)
            ),
            limit,
        )

    def in_use(self, digest: str) -> bool:
        with self._database.reading() as session:
            return _in_use(session, digest)

    def removed(self, version: RetiredVersion, now: datetime) -> None:
        dataset = select(DatasetRow.id).where(
            DatasetRow.owner == version.owner, DatasetRow.name == version.name
        )
        with self._database.transaction() as session:
            session.execute(
                update(DatasetVersionRow)
                .where(
                    DatasetVersionRow.dataset_id == dataset.scalar_subquery(),
                    DatasetVersionRow.version == version.version,
                )
                .values(removed_at=now)
                .execution_options(synchronize_session=False)
            )

    def _found(self, query: Select[*tuple[Any, ...]], limit: int) -> list[RetiredVersion]:
        with self._database.reading() as session:
            rows = session.execute(query.order_by(DatasetVersionRow.retired_at).limit(limit))
            return [RetiredVersion(*row) for row in rows]


def _specs(session: Session, text: str) -> Iterator[dict[str, Any]]:
    """What runs were submitted with, of those whose specification has this text in it."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    query = select(RunRow.spec).where(cast(RunRow.spec, Text).like(f"%{escaped}%", escape="\\"))
    yield from session.scalars(query.execution_options(yield_per=500))


def _referred_to(session: Session, version: RetiredVersion) -> bool:
    wanted = (version.owner, version.name, version.version)
    return any(
        (one["owner"], one["name"], one["version"]) == wanted
        # As JSON writes it: a name has letters that JSON leaves as they are.
        for spec in _specs(session, json.dumps(version.name))
        for one in spec.get("datasets", ())
    )


def _in_use(session: Session, digest: str) -> bool:
    versions = select(DatasetVersionRow.version).where(
        DatasetVersionRow.digest == digest, DatasetVersionRow.collected_at.is_(None)
    )
    models = select(ModelVersionRow.version).where(
        or_(ModelVersionRow.onnx == digest, ModelVersionRow.evaluation == digest)
    )
    if any(session.scalars(query.limit(1)).first() is not None for query in (versions, models)):
        return True
    return next(_specs(session, digest), None) is not None
