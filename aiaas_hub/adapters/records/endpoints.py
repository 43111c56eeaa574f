"""Records of endpoints, their versions and their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.pages import select_page
from aiaas_hub.adapters.records.tables import (
    EndpointChangeRow,
    EndpointRow,
    EndpointVersionRow,
    KeyRow,
)
from aiaas_hub.domain.records import Deployment
from aiaas_hub.domain.states import check_endpoint_transition
from aiaas_hub.domain.traffic import Shift
from aiaas_hub.schemas.endpoints import (
    Action,
    Bake,
    CanaryPlan,
    Change,
    Endpoint,
    EndpointState,
    EndpointVersion,
    Parity,
    ServingOptions,
    Sleep,
)
from aiaas_hub.schemas.errors import Conflict, NotFound
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.paging import Page

_UNSETTLED = [state.value for state in EndpointState if not state.is_settled]


class SqlEndpointRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, owner: str, name: str) -> Endpoint | None:
        with self._database.reading() as session:
            row = find(session, owner, name)
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
            row = find(session, owner, name)
            if row is None:
                row = EndpointRow(
                    owner=owner,
                    name=name,
                    created_at=now,
                    updated_at=now,
                    latest_version=0,
                    traffic={},
                    former={},
                    sticky=False,
                )
                session.add(row)
                session.flush()
            versions = _versions(session, row)
            for former in versions:
                if idempotency_key is not None and former.idempotency_key == idempotency_key:
                    return _deployment(row, former)
            if versions and _info(versions[0]).is_judged:
                raise Conflict(
                    f"Version {versions[0].version} of {name} is a canary that nobody has judged.",
                    remedy=f"Compare the two, then %aiaas promote {name} or "
                    f"%aiaas rollback {name}.",
                )
            if versions and versions[0].state in _UNSETTLED:
                raise Conflict(
                    f"Version {versions[0].version} of {name} is still being published.",
                    remedy=f"Watch it with %aiaas endpoint {name} and try again when it serves.",
                )
            _rouse(row)
            row.latest_version += 1
            row.updated_at = now
            added = EndpointVersionRow(
                endpoint_id=row.id,
                version=row.latest_version,
                idempotency_key=idempotency_key,
                model=info.model.model_dump()
                | {"options": info.options.model_dump(), "why": info.why},
                serving_name=serving_name,
                state=info.state.value,
                created_at=now,
                created_by=info.created_by,
                reason="",
                error="",
                plan=None if info.plan is None else info.plan.model_dump(),
            )
            session.add(added)
            session.flush()
            return _deployment(row, added)

    def deployments(self, owner: str, name: str) -> Sequence[Deployment]:
        with self._database.reading() as session:
            row = find(session, owner, name)
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
            row = required(session, deployment.owner, deployment.endpoint)
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
            row = required(session, deployment.owner, deployment.endpoint)
            version = session.get_one(EndpointVersionRow, (row.id, deployment.version))
            if version.state not in _UNSETTLED or version.reason == reason:
                return False
            version.reason = reason
            return True

    def change(
        self,
        owner: str,
        name: str,
        decide: Callable[[Endpoint], Shift | None],
        *,
        by: str,
        idempotency_key: str | None = None,
    ) -> bool:
        with self._database.transaction() as session:
            row = required(session, owner, name)
            if _changed_before(session, row, idempotency_key):
                return False
            shift = decide(_endpoint(session, row))
            if shift is None:
                return False
            now = datetime.now(UTC)
            before = row.traffic
            row.traffic, row.former = _stored(shift.traffic), _stored(shift.former)
            if shift.sticky is not None:
                row.sticky = shift.sticky
            row.updated_at = now
            _rouse(row)
            for number, (state, error) in shift.states.items():
                version = session.get_one(EndpointVersionRow, (row.id, number))
                check_endpoint_transition(EndpointState(version.state), state)
                version.state, version.reason, version.error = state.value, "", error
            if shift.routes is not None:
                routed = session.get_one(EndpointVersionRow, (row.id, shift.routes))
                routed.routed_at = now
                if shift.traffic == {shift.routes: 100}:
                    routed.plan = None
            if shift.bake is not None:
                session.get_one(EndpointVersionRow, (row.id, shift.version)).bake = dict(shift.bake)
            session.add(
                EndpointChangeRow(
                    endpoint_id=row.id,
                    idempotency_key=idempotency_key,
                    at=now,
                    by=by,
                    action=shift.action.value,
                    version=shift.version,
                    before=before,
                    after=row.traffic,
                    why=shift.why,
                )
            )
            return True

    def changes(self, owner: str, name: str, cursor: str | None, limit: int) -> Page[Change]:
        with self._database.reading() as session:
            row = required(session, owner, name)
            query = select(EndpointChangeRow).where(EndpointChangeRow.endpoint_id == row.id)
            return select_page(session, query, EndpointChangeRow.id, cursor, limit, _change)

    def bake(self, deployment: Deployment) -> dict[str, Any] | None:
        with self._database.reading() as session:
            row = required(session, deployment.owner, deployment.endpoint)
            return session.get_one(EndpointVersionRow, (row.id, deployment.version)).bake

    def keep_bake(self, deployment: Deployment, bake: dict[str, Any]) -> None:
        with self._database.transaction() as session:
            row = required(session, deployment.owner, deployment.endpoint)
            version = session.get_one(EndpointVersionRow, (row.id, deployment.version))
            if version.state == EndpointState.CANARY:
                version.bake = bake

    def retire(self, owner: str, name: str, by: str, why: str = "") -> None:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            row = required(session, owner, name)
            if _endpoint(session, row).state is not EndpointState.RETIRED:
                session.add(
                    EndpointChangeRow(
                        endpoint_id=row.id,
                        at=now,
                        by=by,
                        action=Action.RETIRED.value,
                        before=row.traffic,
                        after={},
                        why=why,
                    )
                )
            row.traffic, row.former, row.sleep = {}, {}, None
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

    def set_sleep(self, owner: str, name: str, expected: Sleep | None, new: Sleep | None) -> bool:
        with self._database.transaction() as session:
            row = required(session, owner, name)
            if row.sleep != expected or not row.traffic:
                return False
            if new is Sleep.ASLEEP and _versions(session, row)[0].state in _UNSETTLED:
                return False
            row.sleep = None if new is None else new.value
            return True

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


def find(session: Session, owner: str, name: str) -> EndpointRow | None:
    return session.scalars(
        select(EndpointRow).where(EndpointRow.owner == owner, EndpointRow.name == name)
    ).one_or_none()


def required(session: Session, owner: str, name: str) -> EndpointRow:
    row = find(session, owner, name)
    if row is None:
        raise NotFound(f"There is no endpoint {name}.", remedy="See %aiaas endpoints.")
    return row


def _rouse(row: EndpointRow) -> None:
    """Whoever changes an endpoint wants it to serve."""
    if row.sleep is not None:
        row.sleep = Sleep.WAKING.value


def _versions(session: Session, row: EndpointRow) -> Sequence[EndpointVersionRow]:
    return session.scalars(
        select(EndpointVersionRow)
        .where(EndpointVersionRow.endpoint_id == row.id)
        .order_by(EndpointVersionRow.version.desc())
    ).all()


def _stored(traffic: Mapping[int, int]) -> dict[str, Any]:
    return {str(version): percent for version, percent in traffic.items()}


def _read(traffic: Mapping[str, Any]) -> dict[int, int]:
    return {int(version): percent for version, percent in traffic.items()}


def _changed_before(session: Session, row: EndpointRow, key: str | None) -> bool:
    if key is None:
        return False
    query = select(EndpointChangeRow.id).where(
        EndpointChangeRow.endpoint_id == row.id, EndpointChangeRow.idempotency_key == key
    )
    return session.scalar(query) is not None


def _change(row: EndpointChangeRow) -> Change:
    return Change(
        id=row.id,
        at=row.at,
        by=row.by,
        action=Action(row.action),
        version=row.version,
        before=_read(row.before),
        after=_read(row.after),
        why=row.why,
    )


def _info(version: EndpointVersionRow) -> EndpointVersion:
    return EndpointVersion(
        version=version.version,
        model=PinnedModel.model_validate(version.model),
        options=ServingOptions.model_validate(version.model.get("options", {})),
        state=EndpointState(version.state),
        created_at=version.created_at,
        created_by=version.created_by,
        parity=None if version.parity is None else Parity.model_validate(version.parity),
        plan=None if version.plan is None else CanaryPlan.model_validate(version.plan),
        routed_at=version.routed_at,
        bake=None if version.bake is None else Bake.model_validate(version.bake),
        reason=version.reason,
        error=version.error,
        why=version.model.get("why", ""),
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
        traffic=_read(row.traffic),
        former=_read(row.former),
        sticky=row.sticky,
        sleep=None if row.sleep is None else Sleep(row.sleep),
        versions=versions,
        url="",
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
