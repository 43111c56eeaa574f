"""Who is asking, and what they may do.

The hub knows who: a request carries a hub token, which the hub is asked about. What they may do
is told by custom scopes, one per verb, filtered to the owner of the object.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol

import anyio.to_thread
from fastapi import Depends, Request
from jupyterhub.services.auth import HubAuth, check_scopes
from tornado.web import HTTPError

from aiaas_hub.api import auditing
from aiaas_hub.api.bearer import bearer
from aiaas_hub.schemas.audit import Via
from aiaas_hub.schemas.errors import Forbidden, NotFound, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

CACHE_SECONDS = 30
"""A revoked token still passes for reads this long; writes always ask the hub."""
MAX_CACHED_TOKENS = 10_000


class Scope(StrEnum):
    """The vocabulary. The hub's configuration grants each to users for their own objects."""

    READ = "custom:aiaas:read"
    DATA_WRITE = "custom:aiaas:data:write"
    RUNS_WRITE = "custom:aiaas:runs:write"
    MODELS_WRITE = "custom:aiaas:models:write"
    ENDPOINTS_WRITE = "custom:aiaas:endpoints:write"


@dataclass(frozen=True)
class Principal:
    user: str
    scopes: frozenset[str]
    admin: bool = False
    groups: frozenset[str] = frozenset()

    def may(self, scope: Scope, owner: str) -> bool:
        # Nobody has an empty name, and the hub takes none for a filter.
        return bool(owner) and bool(check_scopes(f"{scope}!user={owner}", self.scopes))

    def may_read(self, owner: str) -> bool:
        return self.may(Scope.READ, owner)

    @property
    def reads_all(self) -> bool:
        """Whether everybody's objects may be read: what administrators may."""
        return bool(check_scopes(str(Scope.READ), self.scopes))

    def require(self, scope: Scope, owner: str) -> None:
        """Raise `NotFound` if this owner's objects are not even to be seen, `Forbidden` if they
        may be seen and not changed."""
        if not self.may_read(owner):
            raise NotFound("There is no such object.", remedy="Check owner and name.")
        if not self.may(scope, owner):
            raise Forbidden(
                f"Your token may not do this (it lacks {scope}).",
                remedy="Restart your server to get a fresh token, or ask an administrator.",
            )


class Identity(Protocol):
    async def identify(self, token: str, *, fresh: bool) -> Principal | None: ...


class HubIdentity:
    """Asks the hub. `fresh` passes its cache by."""

    def __init__(self) -> None:
        self._auth = HubAuth(cache_max_age=CACHE_SECONDS)

    async def identify(self, token: str, *, fresh: bool) -> Principal | None:
        if len(self._auth.cache.values) > MAX_CACHED_TOKENS:
            # A flood of invalid tokens, which are cached too: memory is worth more than speed.
            self._auth.cache.clear()
        try:
            answer: Awaitable[dict[str, Any] | None] = self._auth.user_for_token(
                token, use_cache=not fresh, sync=False
            )
            model = await answer
        except HTTPError as error:
            raise Unavailable(
                "The hub cannot be asked who you are right now.", remedy="Try again in a moment."
            ) from error
        if model is None or model.get("kind") != "user":
            return None
        return Principal(
            user=model["name"],
            scopes=frozenset(model.get("scopes", ())),
            admin=bool(model.get("admin", False)),
            groups=frozenset(model.get("groups", ())),
        )


async def identify(request: Request) -> Principal:
    identity: Identity = request.app.state.identity
    fresh = request.method not in ("GET", "HEAD")
    principal = await identity.identify(bearer(request.scope), fresh=fresh)
    if principal is None:
        raise Unauthenticated(
            "The token is not valid, or not any more.",
            remedy="Restart your server (File → Hub Control Panel) to get a new one.",
        )
    # Before what they ask for is looked at: attempts that are refused are recorded too.
    await auditing.begin(request, principal.user, Via.API, await _run_owner(request))
    return principal


async def _run_owner(request: Request) -> str | None:
    """Whose run the path names, where it names one; empty for a run that is not there."""
    run_id = request.path_params.get("run_id")
    if run_id is None or request.method in ("GET", "HEAD"):
        return None
    run = await anyio.to_thread.run_sync(request.app.state.services.run_records.get, run_id)
    return "" if run is None else str(run.owner)


Caller = Annotated[Principal, Depends(identify)]


def on_owner(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """A dependency for routes with `{owner}` in their path."""

    async def permitted(owner: str, caller: Caller) -> Principal:
        caller.require(scope, owner)
        return caller

    return permitted


Reader = Annotated[Principal, Depends(on_owner(Scope.READ))]
DataWriter = Annotated[Principal, Depends(on_owner(Scope.DATA_WRITE))]
ModelWriter = Annotated[Principal, Depends(on_owner(Scope.MODELS_WRITE))]
EndpointWriter = Annotated[Principal, Depends(on_owner(Scope.ENDPOINTS_WRITE))]
