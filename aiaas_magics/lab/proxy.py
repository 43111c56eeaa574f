"""`{server}/aiaas/api/v1/…` → the service's `/api/v1/…`, for the paths that a page needs.

The upstream is fixed, and its paths are made here from ids and names that have been checked. Of
a body only those fields are passed on that the service knows for this path, and an idempotency key
with it; nothing else of what a browser sends (path, headers, cookies) is, and of the answer nothing
but status and body.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import httpx
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from pydantic import BaseModel, ValidationError
from tornado import web
from tornado.iostream import StreamClosedError

from aiaas_hub.schemas.endpoints import KeyCreate, TrafficRequest
from aiaas_hub.schemas.errors import (
    AiaasError,
    Forbidden,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
    to_body,
)
from aiaas_hub.schemas.names import check_name
from aiaas_magics import __version__
from aiaas_magics.client.transport import (
    STREAM_TIMEOUT,
    TIMEOUT,
    Connection,
    as_aiaas_errors,
    raise_for_error,
    segment,
    trusted,
)

LONGEST_BODY = 1 << 20
"""Bytes of what a page says of a change, or types as rows."""
MOST_STREAMS = 64
LONGEST_STREAM_SECONDS = 600.0
"""Whoever watches for longer comes back by offsets, and shows again that they may."""

# As they stand in an address. A name of the hub's may hold nearly anything, percent-encoded.
_SEGMENTS = {
    "run_id": r"(?P<run_id>[a-z0-9][a-z0-9-]{0,63})",
    "owner": r"(?P<owner>[^/?#]{1,1024})",
    "name": r"(?P<name>[A-Za-z0-9._-]{1,64})",
    "key_id": r"(?P<key_id>[a-z0-9]{1,64})",
}
_NUMBER = re.compile(r"[0-9]{1,16}")
_CURSOR = re.compile(r"[A-Za-z0-9_=-]{1,512}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Whoever the hub lets in, but no part of a path: what is left is encoded again.
_OWNER = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_ONCE = "Idempotency-Key"
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")
_WORDS = re.compile(r"[^\x00-\x1f\x7f]{0,256}")


@dataclass
class Upstream:
    """The service, and how many streams of it are open."""

    http: httpx.AsyncClient
    streams: int = 0

    @classmethod
    def connect(cls) -> Upstream:
        # As in the notebook's own client: no proxy for the outside world, and no redirect, may
        # ever see the token.
        return cls(
            httpx.AsyncClient(
                trust_env=False,
                verify=trusted(),
                # Nor is a cookie of one answer sent with the next question.
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
                follow_redirects=False,
                limits=httpx.Limits(max_connections=2 * MOST_STREAMS),
            )
        )

    @asynccontextmanager
    async def answer(
        self,
        route: Route,
        place: Mapping[str, str],
        query: dict[str, str],
        body: bytes,
        once: str | None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer, its body yet to be read. Raises `AiaasError`, also for an error's answer."""
        connection = Connection.from_environment()
        with as_aiaas_errors(connection.url):
            async with self.http.stream(
                route.method,
                f"{connection.url}/api/v1{route.path_of(place)}",
                params=query,
                headers={
                    "Authorization": f"Bearer {connection.token}",
                    "Accept": route.kind,
                    "Accept-Encoding": "identity",
                    "User-Agent": f"aiaas-lab/{__version__}",
                    **({"Content-Type": "application/json"} if body else {}),
                    **({_ONCE: once} if once is not None else {}),
                },
                content=body or None,
                timeout=STREAM_TIMEOUT if route.stream else TIMEOUT,
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise_for_error(response)
                yield response


@dataclass(frozen=True)
class Route:
    """One thing that a page may ask of the service."""

    method: str
    path: str
    """Below `/api/v1`, with `{run_id}`, or `{owner}` and `{name}`, and `{key_id}` of that."""
    query: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    """Arguments that are passed on, and what each must look like; others are Jupyter's own."""
    body: bytes = b""
    """What is sent, whatever the page sends."""
    takes: type[BaseModel] | None = None
    """What a page sends instead, read as this and written again."""
    stream: bool = False

    @property
    def kind(self) -> str:
        """What the answer is taken for, whatever it says: none can become a page of this server."""
        return "text/event-stream" if self.stream else "application/json"

    @property
    def pattern(self) -> str:
        """Of an address as it arrives, still encoded."""
        return self.path.format(**_SEGMENTS)

    def path_of(self, place: Mapping[str, str]) -> str:
        """The service's path. Raises `NotFound` for what nobody and nothing can be called."""
        owner, name = place.get("owner"), place.get("name")
        if owner is not None and (owner in (".", "..") or not _OWNER.fullmatch(owner)):
            raise NotFound("There is no such user.", remedy="Write owner/name.")
        if name is not None:
            check_name(name)
        return self.path.format(**{key: segment(text) for key, text in place.items()})

    def body_of(self, sent: bytes) -> bytes:
        """What is passed on of a page's body. Raises `InvalidInput` or `TooLarge`."""
        if self.takes is None:
            return self.body
        return read_body(self.takes, sent).model_dump_json().encode()


M = TypeVar("M", bound=BaseModel)


def read_body(kind: type[M], sent: bytes, most: int = LONGEST_BODY) -> M:
    """Raises `InvalidInput`, which repeats nothing of what was sent, or `TooLarge`."""
    if len(sent) > most:
        raise TooLarge("That is more than a page may send.", remedy="Send less at once.")
    try:
        return kind.model_validate_json(sent)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f"{where or 'What was sent'} is not what it can be: {first['msg']}.",
            remedy="Change it, then send it again.",
        ) from None


def _numbers(*names: str) -> dict[str, re.Pattern[str]]:
    return dict.fromkeys(names, _NUMBER)


_PAGE = {"cursor": _CURSOR, "limit": _NUMBER}

ROUTES = (
    Route("GET", "/me"),
    Route("GET", "/datasets", {"search": _WORDS, **_PAGE}),
    Route("GET", "/datasets/{owner}/{name}", _numbers("version")),
    Route("GET", "/datasets/{owner}/{name}/versions", _PAGE),
    Route("GET", "/datasets/{owner}/{name}/preview", _numbers("version", "n", "offset")),
    Route("GET", "/datasets/{owner}/{name}/profile", _numbers("version")),
    Route("GET", "/runs", {"name": _NAME, **_PAGE}),
    Route("GET", "/runs/{run_id}"),
    Route("GET", "/runs/{run_id}/logs", _numbers("offset", "limit", "tail")),
    Route("GET", "/runs/{run_id}/metrics", _numbers("since", "points")),
    Route("GET", "/runs/{run_id}/events", _numbers("metrics_since", "log_offset"), stream=True),
    Route("POST", "/runs/{run_id}/cancel"),
    # From its last checkpoint, with nothing changed.
    Route("POST", "/runs/{run_id}/resume", body=b"{}"),
    Route("GET", "/runs/{run_id}/lineage"),
    Route("GET", "/models", _PAGE),
    Route("GET", "/models/{owner}/{name}", _numbers("version")),
    Route("GET", "/endpoints", _PAGE),
    Route("GET", "/endpoints/{owner}/{name}"),
    Route("GET", "/endpoints/{owner}/{name}/statistics"),
    Route("GET", "/endpoints/{owner}/{name}/drift"),
    # For the history they say nothing of why.
    Route("POST", "/endpoints/{owner}/{name}/promote", body=b"{}"),
    Route("POST", "/endpoints/{owner}/{name}/rollback", body=b"{}"),
    Route("DELETE", "/endpoints/{owner}/{name}"),
    Route("POST", "/endpoints/{owner}/{name}/traffic", takes=TrafficRequest),
    Route("GET", "/endpoints/{owner}/{name}/lineage", _numbers("version")),
    Route("GET", "/endpoints/{owner}/{name}/keys", _PAGE),
    Route("POST", "/endpoints/{owner}/{name}/keys", takes=KeyCreate),
    Route("DELETE", "/endpoints/{owner}/{name}/keys/{key_id}"),
)


def add_handlers(app: web.Application) -> Upstream:
    """Serve every route of `ROUTES` on a Jupyter server."""
    upstream = Upstream.connect()
    # One handler for each address: what else may be done at it has another route.
    routes: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        routes.setdefault(route.pattern, {})[route.method] = route
    app.add_handlers(
        ".*$",
        [
            (
                url_path_join(re.escape(app.settings["base_url"]), "aiaas/api/v1", pattern),
                Passing,
                {"upstream": upstream, "routes": by_method},
            )
            for pattern, by_method in routes.items()
        ],
    )
    return upstream


def refuse_visitors(handler: APIHandler) -> None:
    """The token is the owner's: somebody whom they let in to this server has another."""
    owner = os.environ.get("JUPYTERHUB_USER")
    if owner and handler.current_user.username != owner:
        raise Forbidden(
            f"This server belongs to {owner}.", remedy="Open the notebook in your own server."
        )


class Passing(APIHandler):
    """Asks the service what the route of its address and method says."""

    auth_resource = "aiaas"
    # A page that keeps itself up to date is nobody at work: an idle server stays idle.
    _track_activity = False

    def initialize(self, upstream: Upstream, routes: Mapping[str, Route]) -> None:
        super().initialize()
        self._upstream = upstream
        self._routes = routes
        self._task: asyncio.Task[None] | None = None

    @web.authenticated
    @authorized
    async def get(self, **place: str) -> None:
        await self._pass_on(place)

    @web.authenticated
    @authorized
    async def post(self, **place: str) -> None:
        await self._pass_on(place)

    @web.authenticated
    @authorized
    async def delete(self, **place: str) -> None:
        await self._pass_on(place)

    async def _pass_on(self, place: Mapping[str, str]) -> None:
        route = self._routes.get(self.request.method or "")
        if route is None:
            raise web.HTTPError(405)
        # Cancelled as soon as the browser is gone: the service need not talk to nobody.
        self._task = asyncio.ensure_future(self._answer(route, place))
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._task.cancelled():
                raise

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, route: Route, place: Mapping[str, str]) -> None:
        try:
            refuse_visitors(self)
            async with (
                self._room(route),
                self._upstream.answer(
                    route,
                    place,
                    self._query(route),
                    route.body_of(self.request.body),
                    self._once(route),
                ) as response,
            ):
                await self._copy(route, response)
        except AiaasError as error:
            if not self._headers_written:
                self.set_status(error.status)
                await self.finish(to_body(error, error.request_id).model_dump_json())
        except StreamClosedError:
            pass  # the browser went away in the middle

    def _query(self, route: Route) -> dict[str, str]:
        query = {}
        for name in sorted(route.query.keys() & self.request.query_arguments.keys()):
            value = self.get_query_argument(name)
            kind = route.query[name]
            if not kind.fullmatch(value):
                if kind is _NUMBER:
                    raise InvalidInput(f"{name} is not a number.", remedy=f"Try {name}=0.")
                raise InvalidInput(f"{name} is not what it can be.", remedy=f"Leave {name} out.")
            query[name] = value
        return query

    def _once(self, route: Route) -> str | None:
        """What makes a request that is repeated the same request."""
        key = self.request.headers.get(_ONCE)
        if key is None or route.method != "POST":
            return None
        if not _KEY.fullmatch(key):
            raise InvalidInput(
                f"{_ONCE} is not what it can be.", remedy="Send a new UUID for each change."
            )
        return key

    @asynccontextmanager
    async def _room(self, route: Route) -> AsyncIterator[None]:
        """One of the streams that may be open, for as long as one may be."""
        if not route.stream:
            yield
            return
        if self._upstream.streams >= MOST_STREAMS:
            raise Unavailable(
                f"This server follows {MOST_STREAMS} runs already.",
                remedy="Close some of the notebooks that show runs.",
            )
        self._upstream.streams += 1
        try:
            # The end of a stream says nothing, also where it is ours.
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_STREAM_SECONDS):
                    yield
        finally:
            self._upstream.streams -= 1

    async def _copy(self, route: Route, response: httpx.Response) -> None:
        """The body as it comes, never more of it in memory than a browser is slow to take."""
        self.set_status(response.status_code)
        self.set_header("Content-Type", route.kind)
        self.set_header("Cache-Control", "no-store")
        if route.stream:
            self.set_header("X-Accel-Buffering", "no")
            await self.flush()
        async for chunk in response.aiter_bytes():
            self.write(chunk)
            await self.flush()
        await self.finish(set_content_type=route.kind)
