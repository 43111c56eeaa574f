"""Records of profiles."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, select, update

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.datasets import as_dataset
from aiaas_hub.adapters.records.tables import DatasetProfileRow, DatasetRow, DatasetVersionRow
from aiaas_hub.schemas.datasets import Dataset
from aiaas_hub.schemas.errors import NotFound
from aiaas_hub.schemas.profiles import Profile, ProfileState, ProfileStatus

_OPEN = (ProfileState.QUEUED.value, ProfileState.RUNNING.value)


class SqlProfileRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, owner: str, name: str, version: int) -> ProfileStatus | None:
        with self._database.reading() as session:
            row = session.scalars(_rows(owner, name, version)).one_or_none()
            return None if row is None else _status(owner, name, row)

    def request(
        self, owner: str, name: str, version: int, total: int, now: datetime
    ) -> ProfileStatus:
        with self._database.transaction() as session:
            row = session.scalars(_rows(owner, name, version)).one_or_none()
            if row is None:
                dataset = session.scalars(
                    select(DatasetRow.id).where(DatasetRow.owner == owner, DatasetRow.name == name)
                ).one_or_none()
                if dataset is None:
                    raise NotFound(f"There is no dataset {name}.", remedy="See %aiaas datasets.")
                row = DatasetProfileRow(
                    dataset_id=dataset,
                    version=version,
                    state=ProfileState.QUEUED,
                    attempt=0,
                    done=0,
                    total=total,
                    requested_at=now,
                    error="",
                )
                session.add(row)
            elif row.state == ProfileState.FAILED:
                row.state, row.attempt, row.done, row.error = ProfileState.QUEUED, 0, 0, ""
                row.requested_at = now
            return _status(owner, name, row)

    def next(self) -> tuple[Dataset, int] | None:
        with self._database.reading() as session:
            found = session.execute(
                select(DatasetProfileRow, DatasetRow, DatasetVersionRow)
                .join(DatasetRow, DatasetRow.id == DatasetProfileRow.dataset_id)
                .join(
                    DatasetVersionRow,
                    (DatasetVersionRow.dataset_id == DatasetProfileRow.dataset_id)
                    & (DatasetVersionRow.version == DatasetProfileRow.version),
                )
                .where(DatasetProfileRow.state.in_(_OPEN))
                .order_by(DatasetProfileRow.requested_at)
                .limit(1)
            ).first()
            if found is None:
                return None
            profile, dataset, version = found
            return as_dataset(dataset, version), profile.attempt

    def begin(self, owner: str, name: str, version: int) -> None:
        self._change(
            owner,
            name,
            version,
            state=ProfileState.RUNNING,
            done=0,
            attempt=DatasetProfileRow.attempt + 1,
        )

    def progress(self, owner: str, name: str, version: int, done: int) -> None:
        self._change(owner, name, version, done=done)

    def finish(self, owner: str, name: str, version: int, profile: Profile) -> None:
        self._change(
            owner,
            name,
            version,
            state=ProfileState.DONE,
            finished_at=datetime.now(UTC),
            result=profile.model_dump(mode="json"),
        )

    def fail(self, owner: str, name: str, version: int, error: str) -> None:
        self._change(
            owner,
            name,
            version,
            state=ProfileState.FAILED,
            finished_at=datetime.now(UTC),
            error=error,
        )

    def _change(self, owner: str, name: str, version: int, **values: Any) -> None:
        dataset = select(DatasetRow.id).where(DatasetRow.owner == owner, DatasetRow.name == name)
        with self._database.transaction() as session:
            session.execute(
                update(DatasetProfileRow)
                .where(
                    DatasetProfileRow.dataset_id == dataset.scalar_subquery(),
                    DatasetProfileRow.version == version,
                    # A profile that is done stays as it is.
                    DatasetProfileRow.state.in_(_OPEN),
                )
                .values(**values)
                .execution_options(synchronize_session=False)
            )


def _rows(owner: str, name: str, version: int) -> Select[DatasetProfileRow]:
    return (
        select(DatasetProfileRow)
        .join(DatasetRow, DatasetRow.id == DatasetProfileRow.dataset_id)
        .where(
            DatasetRow.owner == owner,
            DatasetRow.name == name,
            DatasetProfileRow.version == version,
        )
    )


def _status(owner: str, name: str, row: DatasetProfileRow) -> ProfileStatus:
    return ProfileStatus(
        owner=owner,
        name=name,
        version=row.version,
        state=ProfileState(row.state),
        done=row.done,
        total=row.total,
        requested_at=row.requested_at,
        error=row.error,
        profile=None if row.result is None else Profile.model_validate(row.result),
    )
