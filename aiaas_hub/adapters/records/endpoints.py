"""Records of endpoints, their versions and their keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.pages import select_page
from aiaas_hub.adapters.records.tables import EndpointRow, EndpointVersionRow, KeyRow
from aiaas_hub.domain.records import Deployment
from aiaas_hub.domain.states import check_endpoint_transition
from aiaas_hub.schemas.endpoints import Endpoint, EndpointState, EndpointVersion, Key, Parity
from aiaas_hub.schemas.errors import Conflict, NotFound
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.paging import Page

MAX_KEYS = 100
"""Per endpoint, the revoked among them until they expire: each is in the gateway's routes."""
_UNSETTLED = [state.value for state in EndpointState if not state.is_settled]


class SqlEndpointRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, owner: str, name: str) -> Endpoint | None:
        with self._database.reading() as session:
            row = _find(session, owner, name)
            return None if row is None else _endpoint(session, row)

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Endpoint]:
        query = select(EndpointRow).where(EndpointRow.owner == owner)
        with self._database.reading() as session:
            return select_page(
                session, query, EndpointRow.id, cursor, limit, lambda row: _endpoint(session, row)
            )

    def add_version(
        self,
        owner: str,
        name: str,
        info: EndpointVersion,
        serving_name: str,
        idempotency_key: str | None,
    ) -> Deployment:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            row = _find(session, owner, name)
            if row is None:
                row = EndpointRow(
                    owner=owner,
                    name=name,
                    created_at=now,
                    updated_at=now,
                    latest_version=0,
                    traffic={},
                )
                session.add(row)
                session.flush()
            versions = _versions(session, row)
            for former in versions:
                if idempotency_key is not None and former.idempotency_key == idempotency_key:
                    return _deployment(row, former)
            if versions and versions[0].state in _UNSETTLED:
                raise Conflict(
                    f"Version {versions[0].version} of {name} is still being published.",
                    remedy=f"Watch it with %aiaas endpoint {name} and try again when it serves.",
                )
            row.latest_version += 1
            row.updated_at = now
            added = EndpointVersionRow(
                endpoint_id=row.id,
                version=row.latest_version,
                idempotency_key=idempotency_key,
                model=info.model.model_dump(),
                serving_name=serving_name,
                state=info.state.value,
                created_at=now,
                created_by=info.created_by,
                reason="",
                error="",
            )
            session.add(added)
            session.flush()
            return _deployment(row, added)

    def deployments(self, owner: str, name: str) -> Sequence[Deployment]:
        with self._database.reading() as session:
            row = _find(session, owner, name)
            if row is None:
                return []
            return [_deployment(row, version) for version in _versions(session, row)]

    def unsettled(self) -> Sequence[Deployment]:
        query = (
            select(EndpointRow, EndpointVersionRow)
            .join(EndpointVersionRow, EndpointVersionRow.endpoint_id == EndpointRow.id)
            .where(EndpointVersionRow.state.in_(_UNSETTLED))
            .order_by(EndpointVersionRow.created_at)
        )
        with self._database.reading() as session:
            return [_deployment(row, version) for row, version in session.execute(query)]

    def transition(
        self,
        deployment: Deployment,
        expected: EndpointState,
        new: EndpointState,
        **values: Any,
    ) -> Deployment | None:
        with self._database.transaction() as session:
            row = _required(session, deployment.owner, deployment.endpoint)
            version = session.get_one(EndpointVersionRow, (row.id, deployment.version))
            if version.state != expected:
                return None
            check_endpoint_transition(expected, new)
            version.state = new.value
            version.reason = ""
            for column, value in values.items():
                setattr(version, column, value)
            row.updated_at = datetime.now(UTC)
            return _deployment(row, version)

    def explain(self, deployment: Deployment, reason: str) -> bool:
        with self._database.transaction() as session:
            row = _required(session, deployment.owner, deployment.endpoint)
            version = session.get_one(EndpointVersionRow, (row.id, deployment.version))
            if version.state not in _UNSETTLED or version.reason == reason:
                return False
            version.reason = reason
            return True

    def route(self, deployment: Deployment, traffic: dict[int, int]) -> bool:
        with self._database.transaction() as session:
            row = _required(session, deployment.owner, deployment.endpoint)
            version = session.get_one(EndpointVersionRow, (row.id, deployment.version))
            if version.state != EndpointState.CANARY:
                return False
            row.traffic = {str(version): percent for version, percent in traffic.items()}
            row.updated_at = datetime.now(UTC)
            return True

    def retire(self, owner: str, name: str) -> None:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            row = _required(session, owner, name)
            row.traffic = {}
            row.updated_at = now
            for version in _versions(session, row):
                if version.state not in (EndpointState.FAILED, EndpointState.RETIRED):
                    check_endpoint_transition(EndpointState(version.state), EndpointState.RETIRED)
                    version.state = EndpointState.RETIRED.value
            for key in session.scalars(select(KeyRow).where(KeyRow.endpoint_id == row.id)):
                key.revoked_at = key.revoked_at or now

    def routed(self) -> Sequence[tuple[Endpoint, Sequence[Deployment]]]:
        with self._database.reading() as session:
            return [
                (
                    _endpoint(session, row),
                    [_deployment(row, version) for version in _versions(session, row)],
                )
                for row in session.scalars(select(EndpointRow).order_by(EndpointRow.id))
                if row.traffic
            ]

    def count_serving(self, owner: str) -> int:
        query = (
            select(func.count(EndpointVersionRow.endpoint_id.distinct()))
            .join(EndpointRow, EndpointVersionRow.endpoint_id == EndpointRow.id)
            .where(
                EndpointRow.owner == owner,
                EndpointVersionRow.state == EndpointState.SERVING.value,
            )
        )
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def add_key(self, owner: str, name: str, key: Key, idempotency_key: str | None) -> Key:
        with self._database.transaction() as session:
            row = _required(session, owner, name)
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
            )
            session.add(added)
            session.flush()
            return _key(row, added)

    def keys(self, owner: str, name: str, cursor: str | None, limit: int) -> Page[Key]:
        with self._database.reading() as session:
            row = _required(session, owner, name)
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

    def revoke_key(self, owner: str, name: str, key_id: str, at: datetime) -> Key | None:
        with self._database.transaction() as session:
            row = _required(session, owner, name)
            key = session.get(KeyRow, key_id)
            if key is None or key.endpoint_id != row.id:
                return None
            key.revoked_at = key.revoked_at or at
            return _key(row, key)

    def revoked(self, owner: str, name: str, now: datetime) -> Sequence[str]:
        with self._database.reading() as session:
            row = _required(session, owner, name)
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


def _find(session: Session, owner: str, name: str) -> EndpointRow | None:
    return session.scalars(
        select(EndpointRow).where(EndpointRow.owner == owner, EndpointRow.name == name)
    ).one_or_none()


def _required(session: Session, owner: str, name: str) -> EndpointRow:
    row = _find(session, owner, name)
    if row is None:
        raise NotFound(f"There is no endpoint {name}.", remedy="See %aiaas endpoints.")
    return row


def _versions(session: Session, row: EndpointRow) -> Sequence[EndpointVersionRow]:
    return session.scalars(
        select(EndpointVersionRow)
        .where(EndpointVersionRow.endpoint_id == row.id)
        .order_by(EndpointVersionRow.version.desc())
    ).all()


def _info(version: EndpointVersionRow) -> EndpointVersion:
    return EndpointVersion(
        version=version.version,
        model=PinnedModel.model_validate(version.model),
        state=EndpointState(version.state),
        created_at=version.created_at,
        created_by=version.created_by,
        parity=None if version.parity is None else Parity.model_validate(version.parity),
        reason=version.reason,
        error=version.error,
    )


def _deployment(row: EndpointRow, version: EndpointVersionRow) -> Deployment:
    return Deployment(
        owner=row.owner,
        endpoint=row.name,
        info=_info(version),
        serving_name=version.serving_name,
    )


def _endpoint(session: Session, row: EndpointRow) -> Endpoint:
    versions = [_info(version) for version in _versions(session, row)]
    return Endpoint(
        owner=row.owner,
        name=row.name,
        state=versions[0].state,
        traffic={int(version): percent for version, percent in row.traffic.items()},
        versions=versions,
        url="",
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _key(row: EndpointRow, key: KeyRow) -> Key:
    return Key(
        id=key.id,
        endpoint=f"{row.owner}/{row.name}",
        note=key.note,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )
