"""`{server}/aiaas/api/v1/…` → the service's `/api/v1/…`, for the paths that a page needs.

The upstream is fixed, and its paths are made here from an id that has been checked: nothing else
of what a browser sends (path, headers, cookies, body) is passed on, and of the answer nothing but
status and body.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.iostream import StreamClosedError

from aiaas_hub.schemas.errors import AiaasError, Forbidden, InvalidInput, Unavailable, to_body
from aiaas_magics import __version__
from aiaas_magics.client.transport import (
    STREAM_TIMEOUT,
    TIMEOUT,
    Connection,
    as_aiaas_errors,
    raise_for_error,
)

MOST_STREAMS = 64
LONGEST_STREAM_SECONDS = 600.0
"""Whoever watches for longer comes back by offsets, and shows again that they may."""

_RUN_ID = r"(?P<run_id>[a-z0-9][a-z0-9-]{0,63})"
_NUMBER = re.compile(r"[0-9]{1,16}")


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
                # Nor is a cookie of one answer sent with the next question.
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
                follow_redirects=False,
                limits=httpx.Limits(max_connections=2 * MOST_STREAMS),
            )
        )

    @asynccontextmanager
    async def answer(
        self, route: Route, run_id: str, query: dict[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """The answer, its body yet to be read. Raises `AiaasError`, also for an error's answer."""
        connection = Connection.from_environment()
        with as_aiaas_errors(connection.url):
            async with self.http.stream(
                route.method,
                f"{connection.url}/api/v1{route.path.format(run_id=run_id)}",
                params=query,
                headers={
                    "Authorization": f"Bearer {connection.token}",
                    "Accept": route.kind,
                    "Accept-Encoding": "identity",
                    "User-Agent": f"aiaas-lab/{__version__}",
                },
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
    """Below `/api/v1`, with `{run_id}`."""
    query: frozenset[str] = field(default_factory=frozenset)
    """Numbers that are passed on; other arguments are Jupyter's own."""
    stream: bool = False

    @property
    def kind(self) -> str:
        """What the answer is taken for, whatever it says: none can become a page of this server."""
        return "text/event-stream" if self.stream else "application/json"


ROUTES = (
    Route("GET", "/runs/{run_id}"),
    Route("GET", "/runs/{run_id}/logs", frozenset({"offset", "limit", "tail"})),
    Route("GET", "/runs/{run_id}/metrics", frozenset({"since", "points"})),
    Route("GET", "/runs/{run_id}/events", frozenset({"metrics_since", "log_offset"}), stream=True),
    Route("POST", "/runs/{run_id}/cancel"),
)


def add_handlers(app: web.Application) -> Upstream:
    """Serve every route of `ROUTES` on a Jupyter server."""
    upstream = Upstream.connect()
    app.add_handlers(
        ".*$",
        [
            (
                url_path_join(
                    re.escape(app.settings["base_url"]),
                    "aiaas/api/v1",
                    route.path.format(run_id=_RUN_ID),
                ),
                RunReading if route.method == "GET" else RunAction,
                {"upstream": upstream, "route": route},
            )
            for route in ROUTES
        ],
    )
    return upstream


class _Passing(APIHandler):
    """Asks the service what its route says."""

    auth_resource = "aiaas"
    # A page that keeps itself up to date is nobody at work: an idle server stays idle.
    _track_activity = False

    def initialize(self, upstream: Upstream, route: Route) -> None:
        super().initialize()
        self._upstream = upstream
        self._route = route
        self._task: asyncio.Task[None] | None = None

    async def _pass_on(self, run_id: str) -> None:
        # Cancelled as soon as the browser is gone: the service need not talk to nobody.
        self._task = asyncio.ensure_future(self._answer(run_id))
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._task.cancelled():
                raise

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, run_id: str) -> None:
        try:
            self._refuse_visitors()
            async with (
                self._place(),
                self._upstream.answer(self._route, run_id, self._query()) as response,
            ):
                await self._copy(response)
        except AiaasError as error:
            if not self._headers_written:
                self.set_status(error.status)
                await self.finish(to_body(error, error.request_id).model_dump_json())
        except StreamClosedError:
            pass  # the browser went away in the middle

    def _refuse_visitors(self) -> None:
        """The token is the owner's: somebody whom they let in to this server has another."""
        owner = os.environ.get("JUPYTERHUB_USER")
        if owner and self.current_user.username != owner:
            raise Forbidden(
                f"This server belongs to {owner}.", remedy="Open the notebook in your own server."
            )

    def _query(self) -> dict[str, str]:
        query = {}
        for name in sorted(self._route.query & self.request.query_arguments.keys()):
            value = self.get_query_argument(name)
            if not _NUMBER.fullmatch(value):
                raise InvalidInput(f"{name} is not a number.", remedy=f"Try {name}=0.")
            query[name] = value
        return query

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the streams that may be open, for as long as one may be."""
        if not self._route.stream:
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

    async def _copy(self, response: httpx.Response) -> None:
        """The body as it comes, never more of it in memory than a browser is slow to take."""
        self.set_status(response.status_code)
        self.set_header("Content-Type", self._route.kind)
        self.set_header("Cache-Control", "no-store")
        if self._route.stream:
            self.set_header("X-Accel-Buffering", "no")
            await self.flush()
        async for chunk in response.aiter_bytes():
            self.write(chunk)
            await self.flush()
        await self.finish(set_content_type=self._route.kind)


class RunReading(_Passing):
    @web.authenticated
    @authorized
    async def get(self, run_id: str) -> None:
        await self._pass_on(run_id)


class RunAction(_Passing):
    @web.authenticated
    @authorized
    async def post(self, run_id: str) -> None:
        await self._pass_on(run_id)
