"""Records of what runs told is installed where they are executed."""

from __future__ import annotations

from datetime import datetime

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.tables import EnvironmentRow
from aiaas_hub.schemas.jobs import JobEnvironment


class SqlEnvironmentRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self, place: str, submission: str, environment: JobEnvironment, told_at: datetime
    ) -> None:
        with self._database.transaction() as session:
            row = session.get(EnvironmentRow, place)
            if row is None:
                row = EnvironmentRow(place=place)
                session.add(row)
            elif row.submission == submission:
                return
            row.submission, row.told_at = submission, told_at
            row.environment = environment.model_dump(mode="json")

    def get(self, place: str) -> tuple[JobEnvironment, datetime] | None:
        with self._database.reading() as session:
            row = session.get(EnvironmentRow, place)
            if row is None:
                return None
            return JobEnvironment.model_validate(row.environment), row.told_at
