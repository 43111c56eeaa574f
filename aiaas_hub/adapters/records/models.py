"""Records of models."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.pages import select_page
from aiaas_hub.adapters.records.tables import ModelRow, ModelVersionRow
from aiaas_hub.schemas.models import Card, Model, ModelVersion, Signature
from aiaas_hub.schemas.paging import Page


class SqlModelRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, owner: str, name: str, version: int | None = None) -> Model | None:
        with self._database.reading() as session:
            row = _find(session, owner, name)
            if row is None:
                return None
            found = session.get(ModelVersionRow, (row.id, version or row.latest_version))
            return None if found is None else _model(row, found)

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Model]:
        query = select(ModelRow).where(ModelRow.owner == owner)
        with self._database.reading() as session:
            return select_page(
                session,
                query,
                ModelRow.id,
                cursor,
                limit,
                lambda row: _model(
                    row, session.get_one(ModelVersionRow, (row.id, row.latest_version))
                ),
            )

    def of_run(self, run_id: str) -> ModelVersion | None:
        query = (
            select(ModelRow, ModelVersionRow)
            .join(ModelVersionRow, ModelVersionRow.model_id == ModelRow.id)
            .where(ModelVersionRow.run_id == run_id)
            .order_by(ModelVersionRow.version.desc())
            .limit(1)
        )
        with self._database.reading() as session:
            found = session.execute(query).one_or_none()
            return None if found is None else _version(found[0], found[1])

    def evaluation(self, version: ModelVersion) -> str:
        with self._database.reading() as session:
            row = _find(session, version.owner, version.name)
            assert row is not None, "models are not deleted"  # noqa: S101 - an invariant
            return session.get_one(ModelVersionRow, (row.id, version.version)).evaluation

    def add_version(
        self, version: ModelVersion, evaluation: str, idempotency_key: str | None
    ) -> ModelVersion:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            row = _find(session, version.owner, version.name)
            if row is not None:
                repeated = (
                    idempotency_key
                    and session.scalars(
                        select(ModelVersionRow).where(
                            ModelVersionRow.model_id == row.id,
                            ModelVersionRow.idempotency_key == idempotency_key,
                        )
                    ).one_or_none()
                )
                if repeated:
                    return _version(row, repeated)
                newest = session.get_one(ModelVersionRow, (row.id, row.latest_version))
                if (
                    newest.onnx == version.onnx
                    and newest.evaluation == evaluation
                    and newest.run_id == version.run_id
                    and Signature.model_validate(newest.signature) == version.signature
                ):
                    said = version.card.model_dump(exclude_defaults=True)
                    newest.card = {**newest.card, **said}
                    return _version(row, newest)
            if row is None:
                row = ModelRow(
                    owner=version.owner,
                    name=version.name,
                    created_at=now,
                    updated_at=now,
                    latest_version=0,
                    aliases={},
                )
                session.add(row)
                session.flush()
            row.latest_version += 1
            row.updated_at = now
            added = ModelVersionRow(
                model_id=row.id,
                version=row.latest_version,
                idempotency_key=idempotency_key,
                created_at=now,
                signature=version.signature.model_dump(mode="json"),
                onnx=version.onnx,
                evaluation=evaluation,
                size=version.size,
                export_max_abs=version.export_max_abs,
                framework=version.framework,
                run_id=version.run_id,
                card=version.card.model_dump(),
            )
            session.add(added)
            return _version(row, added)

    def set_alias(self, owner: str, name: str, alias: str, version: int | None) -> bool:
        with self._database.transaction() as session:
            row = _find(session, owner, name)
            if row is None:
                return False
            if version is None:
                if alias not in row.aliases:
                    return False
                row.aliases = {k: v for k, v in row.aliases.items() if k != alias}
            elif session.get(ModelVersionRow, (row.id, version)) is None:
                return False
            else:
                row.aliases = {**row.aliases, alias: version}
            row.updated_at = datetime.now(UTC)
            return True

    def set_card(self, owner: str, name: str, version: int, card: Card) -> None:
        with self._database.transaction() as session:
            row = _find(session, owner, name)
            assert row is not None, "models are not deleted"  # noqa: S101 - an invariant
            session.get_one(ModelVersionRow, (row.id, version)).card = card.model_dump()


def _find(session: Session, owner: str, name: str) -> ModelRow | None:
    return session.scalars(
        select(ModelRow).where(ModelRow.owner == owner, ModelRow.name == name)
    ).one_or_none()


def _version(row: ModelRow, version: ModelVersionRow) -> ModelVersion:
    return ModelVersion(
        owner=row.owner,
        name=row.name,
        version=version.version,
        created_at=version.created_at,
        signature=Signature.model_validate(version.signature),
        onnx=version.onnx,
        size=version.size,
        export_max_abs=version.export_max_abs,
        framework=version.framework,
        run_id=version.run_id,
        card=Card.model_validate(version.card),
    )


def _model(row: ModelRow, version: ModelVersionRow) -> Model:
    return Model(
        owner=row.owner,
        name=row.name,
        created_at=row.created_at,
        updated_at=row.updated_at,
        latest=_version(row, version),
        aliases={name: int(number) for name, number in row.aliases.items()},
    )
