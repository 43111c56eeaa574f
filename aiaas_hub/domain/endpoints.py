"""Endpoints: what should be served to whom."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from aiaas_hub.domain import traffic
from aiaas_hub.domain.datasets import MayRead
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.ports import Gateway, Notifier, Route, RouteTarget, ServingEngine, Signer
from aiaas_hub.domain.records import Deployment, EndpointRecords, KeyRecords
from aiaas_hub.domain.runs import Runs
from aiaas_hub.domain.serving_names import serving_name
from aiaas_hub.schemas.endpoints import (
    Change,
    Endpoint,
    EndpointState,
    EndpointToken,
    EndpointVersion,
    Key,
    KeyCreate,
    KeyScope,
    PublishRequest,
    Sleep,
    TrafficRequest,
)
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound
from aiaas_hub.schemas.models import ModelVersion, PinnedModel, Signature
from aiaas_hub.schemas.names import check_name
from aiaas_hub.schemas.paging import Page

TOKEN_LIFETIME = timedelta(minutes=10)
IMAGE_BATCH = 16
"""Files of images that one request may have, where nobody says how many: each may be megabytes."""
PROMPT_BATCH = 4
"""Held-out prompts that are gone on with at a time: each takes many runs of the model."""


def topic(owner: str, name: str) -> str:
    return f"endpoints/{owner}/{name}"


class Endpoints:
    def __init__(
        self,
        records: EndpointRecords,
        keys: KeyRecords,
        models: Models,
        runs: Runs,
        gateway: Gateway,
        serving: ServingEngine,
        signer: Signer,
        notifier: Notifier,
    ) -> None:
        self._records = records
        self._keys = keys
        self._models = models
        self._runs = runs
        self._gateway = gateway
        self._serving = serving
        self._signer = signer
        self._notifier = notifier
        # Two threads that apply routes must not finish in the wrong order.
        self._applying = threading.Lock()

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Endpoint]:
        page = self._records.page(owner, cursor, limit)
        page.items = [self._complete(endpoint) for endpoint in page.items]
        return page

    def get(self, owner: str, name: str) -> Endpoint:
        """Raises `NotFound`."""
        found = self._records.get(owner, name)
        if found is None:
            raise NotFound(f"There is no endpoint {name}.", remedy="See %aiaas endpoints.")
        return self._complete(found)

    def publish(
        self,
        owner: str,
        name: str,
        request: PublishRequest,
        *,
        by: str,
        may_read: MayRead,
        idempotency_key: str | None,
    ) -> Endpoint:
        """Write the intent to serve a model; the publisher does the rest.

        Raises `Unavailable` where no model can ever be served: a version that waits for that
        would wait for ever.
        """
        check_name(name)
        self._serving.require()
        model = self._source(request, by, may_read)
        options = request.options
        if options.idle_seconds is not None and not self._gateway.wakes:
            raise InvalidInput(
                "Endpoints do not sleep on this platform: its gateway cannot wake them.",
                remedy="Publish it without --idle.",
            )
        if model.signature.generates and options.precision is not None:
            raise InvalidInput(
                "A model that generates text is served in the precision that it comes in.",
                remedy="Leave the precision out.",
            )
        if model.signature.generates and options.batch_delay is not None:
            raise InvalidInput(
                "A model that generates text takes turns, token by token: no request waits for a "
                "batch.",
                remedy="Leave the batch delay out.",
            )
        if options.max_batch is None and (most := _most_rows(model.signature)) is not None:
            options = options.model_copy(update={"max_batch": most})
        self._records.add_version(
            owner,
            name,
            EndpointVersion(
                version=1,
                model=PinnedModel(owner=model.owner, name=model.name, version=model.version),
                state=EndpointState.STAGING,
                created_at=datetime.now(UTC),
                created_by=by,
                options=options,
                plan=request.canary,
                why=request.why,
            ),
            serving_name(owner, name, model.signature, options),
            idempotency_key,
        )
        self._notifier.notify(topic(owner, name))
        return self.get(owner, name)

    def _source(self, request: PublishRequest, by: str, may_read: MayRead) -> ModelVersion:
        if request.model is not None:
            return self._models.resolve(request.model, by, may_read)
        assert request.run is not None  # noqa: S101 - for the type checker: the schema checks
        run = self._runs.get(request.run)
        if not may_read(run.owner):
            raise NotFound("There is no such run.", remedy="See %aiaas runs.")
        if run.model is None and not run.state.is_terminal:
            raise Conflict(
                f"Run {run.id} is {run.state} and has no model yet.",
                remedy=f"Wait for it: %aiaas attach {run.id}",
            )
        return self._models.of_run(run.id)

    def retire(self, owner: str, name: str, why: str, *, by: str) -> Endpoint:
        """Stop serving; the route goes first, then the reconciler unloads the models."""
        self.get(owner, name)
        self._records.retire(owner, name, by, why)
        return self._take_effect(owner, name)

    # Traffic

    def promote(
        self, owner: str, name: str, why: str, *, by: str, idempotency_key: str | None
    ) -> Endpoint:
        """All requests to the canary. Raises `Conflict` where there is none."""

        def decide(endpoint: Endpoint) -> traffic.Shift:
            return traffic.promote(endpoint, why)

        return self._change(owner, name, decide, by, idempotency_key)

    def roll_back(
        self, owner: str, name: str, why: str, *, by: str, idempotency_key: str | None
    ) -> Endpoint:
        """The former traffic again. One file of routes is renamed, and Triton is not asked: what
        a rollback leads to is loaded. Raises `Conflict` where there is none."""

        def decide(endpoint: Endpoint) -> traffic.Shift:
            return traffic.roll_back(endpoint, by, why)

        return self._change(owner, name, decide, by, idempotency_key)

    def share_out(
        self,
        owner: str,
        name: str,
        request: TrafficRequest,
        *,
        by: str,
        idempotency_key: str | None,
    ) -> Endpoint:
        """Split the requests among loaded versions. Raises `InvalidInput` or `Conflict`."""

        def decide(endpoint: Endpoint) -> traffic.Shift | None:
            return traffic.share_out(endpoint, request.traffic, request.why, request.sticky)

        return self._change(owner, name, decide, by, idempotency_key)

    def _change(
        self,
        owner: str,
        name: str,
        decide: Callable[[Endpoint], traffic.Shift | None],
        by: str,
        idempotency_key: str | None,
    ) -> Endpoint:
        self._records.change(owner, name, decide, by=by, idempotency_key=idempotency_key)
        return self._take_effect(owner, name)

    def _take_effect(self, owner: str, name: str) -> Endpoint:
        self.apply_routes()
        self._notifier.notify(topic(owner, name))
        return self.get(owner, name)

    def history(self, owner: str, name: str, cursor: str | None, limit: int) -> Page[Change]:
        """Every change of what serves, newest first: who, when, what and why."""
        return self._records.changes(owner, name, cursor, limit)

    def set_sleep(self, owner: str, name: str, expected: Sleep | None, new: Sleep | None) -> bool:
        """In the records and at the gateway; see `EndpointRecords.set_sleep`."""
        if not self._records.set_sleep(owner, name, expected, new):
            return False
        self._notifier.notify(topic(owner, name))
        self.apply_routes()
        return True

    # Keys

    def create_key(
        self, owner: str, name: str, request: KeyCreate, by: str, idempotency_key: str | None
    ) -> Key:
        """A new key, its token shown this once."""
        self._not_retired(self.get(owner, name))
        now = datetime.now(UTC).replace(microsecond=0)
        key = self._keys.add(
            owner,
            name,
            Key(
                id=secrets.token_hex(12),
                endpoint=f"{owner}/{name}",
                note=request.note,
                scope=request.scope,
                rate=request.rate,
                created_at=now,
                expires_at=now + timedelta(days=request.expires_in_days),
            ),
            idempotency_key,
        )
        if key.rate is not None:
            # In the gateway before the key is anybody's.
            self.apply_routes()
        token = self._signer.sign(_audience(owner, name), key.id, by, key.expires_at, key.scope)
        return key.model_copy(update={"token": token})

    def exchange(self, owner: str, name: str, by: str) -> EndpointToken:
        """A short-lived token for the owner's own notebook."""
        self._not_retired(self.get(owner, name))
        expires_at = datetime.now(UTC).replace(microsecond=0) + TOKEN_LIFETIME
        # No record: it cannot be revoked, and it is over in minutes.
        jti = f"session-{secrets.token_hex(12)}"
        token = self._signer.sign(_audience(owner, name), jti, by, expires_at, KeyScope.VERSIONS)
        return EndpointToken(token=token, expires_at=expires_at)

    def keys(self, owner: str, name: str, cursor: str | None, limit: int) -> Page[Key]:
        return self._keys.page(owner, name, cursor, limit)

    def revoke_key(self, owner: str, name: str, key_id: str) -> Key:
        """Raises `NotFound`. The gateway refuses the key when this returns."""
        revoked = self._keys.revoke(owner, name, key_id, datetime.now(UTC))
        if revoked is None:
            raise NotFound("There is no such key.", remedy=f"See %aiaas keys {name}.")
        self.apply_routes()
        return revoked

    # Routes

    def apply_routes(self) -> None:
        """Give the gateway the routes that the records want now."""
        with self._applying:
            now = datetime.now(UTC)
            self._gateway.apply(
                [
                    self._route(endpoint, deployments, now)
                    for endpoint, deployments in self._records.routed()
                ]
            )

    def _route(self, endpoint: Endpoint, deployments: Sequence[Deployment], now: datetime) -> Route:
        named = {deployment.version: deployment for deployment in deployments}
        # One that is on its way is not verified to the end, until it has a share.
        underway = {v.version for v in endpoint.versions if v.is_underway} - set(endpoint.traffic)
        return Route(
            owner=endpoint.owner,
            endpoint=endpoint.name,
            targets=[
                RouteTarget(
                    model=named[version].serving_name,
                    version=version,
                    percent=endpoint.traffic.get(version, 0),
                    timeout_seconds=named[version].info.options.timeout_seconds,
                )
                for version in sorted(traffic.kept(endpoint) - underway)
            ],
            audience=_audience(endpoint.owner, endpoint.name),
            rates={
                key.id: key.rate
                for key in self._keys.limited(endpoint.owner, endpoint.name, now)
                if key.rate is not None
            },
            revoked=self._keys.revoked(endpoint.owner, endpoint.name, now),
            sticky=endpoint.sticky,
            shadow=_shadow(endpoint, named),
            asleep=endpoint.sleep is not None,
        )

    def _complete(self, endpoint: Endpoint) -> Endpoint:
        """Fill in what the records do not know."""
        path = f"{quote(endpoint.owner, safe='')}/{endpoint.name}"
        signature = None
        if endpoint.traffic:
            newest = max(endpoint.traffic)
            pinned = next(v.model for v in endpoint.versions if v.version == newest)
            signature = self._models.get(pinned.owner, pinned.name, pinned.version).latest.signature
        return endpoint.model_copy(
            update={"url": f"{self._gateway.url}/{path}", "signature": signature}
        )

    @staticmethod
    def _not_retired(endpoint: Endpoint) -> None:
        if endpoint.state is EndpointState.RETIRED:
            raise Conflict(
                f"Endpoint {endpoint.name} is retired.",
                remedy=f"Publish to it again: %aiaas publish {endpoint.name} --model NAME",
            )


def _shadow(endpoint: Endpoint, named: Mapping[int, Deployment]) -> RouteTarget | None:
    version = endpoint.shadow
    if version is None or version.plan is None:
        return None
    return RouteTarget(
        model=named[version.version].serving_name,
        version=version.version,
        percent=version.plan.percent,
        timeout_seconds=version.options.timeout_seconds,
    )


def _most_rows(signature: Signature) -> int | None:
    """Of a request, where nobody says how many; None: as many as of any model."""
    if signature.takes_image:
        return IMAGE_BATCH
    return PROMPT_BATCH if signature.generates else None


def _audience(owner: str, name: str) -> str:
    return f"{owner}/{name}"
