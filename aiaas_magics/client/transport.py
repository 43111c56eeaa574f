"""HTTP to the service: who we are, repeats, errors, pages and event streams.

Everything above this module speaks in wire models; everything below it is httpx.
"""

from __future__ import annotations

import json
import os
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError
from pydantic import BaseModel, ValidationError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from aiaas_hub.schemas.errors import (
    AiaasError,
    ErrorBody,
    Forbidden,
    InternalError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    from_body,
)
from aiaas_hub.schemas.paging import Page
from aiaas_magics import __version__

M = TypeVar("M", bound=BaseModel)
Query = Mapping[str, "str | int | None"]

_ATTEMPTS = 4
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
# Storing and reading whole tables takes the service as long as they are large.
_BULK_SECONDS = 600.0
_BULK_PATHS = ("/blobs", "/versions", "/data", "/preview", "/queries")
# The service sends a comment every 15 s, so three missed ones mean that the line is dead.
STREAM_TIMEOUT = httpx.Timeout(30.0, connect=5.0, read=50.0)
# Bodies are read from disk piece by piece: a data set need not fit in memory twice.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Connection:
    """Where the service is and the token that says who is asking."""

    url: str
    token: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> Connection:
        """What JupyterHub gave this server. Raises `Unavailable` or `Unauthenticated`."""
        url = os.environ.get("AIAAS_URL", "").strip().rstrip("/")
        token = os.environ.get("JUPYTERHUB_API_TOKEN", "").strip()
        if not url:
            raise Unavailable(
                "This notebook does not know where the platform is: AIAAS_URL is not set.",
                remedy="Open it in a server started by the hub, or set AIAAS_URL to "
                "{hub}/services/aiaas and JUPYTERHUB_API_TOKEN to a hub token; 'aiaas up' "
                "('make up' in a clone) starts a platform on this machine.",
            )
        if not _is_address(url):
            raise InvalidInput(
                f"AIAAS_URL is {url!r}, which is not an http address.",
                remedy="Set it to {hub}/services/aiaas, with http:// or https://.",
            )
        if not token:
            raise Unauthenticated(
                "This notebook has no hub token: JUPYTERHUB_API_TOKEN is not set.",
                remedy="Open it in a server started by the hub, or make a token on the hub's "
                "Token page and set the variable.",
            )
        return cls(url, token)


def trusted() -> ssl.SSLContext | bool:
    """What a certificate of the platform is checked against (httpx's `verify`): the authorities in
    the PEM file AIAAS_CA_FILE, or the well-known ones. Raises `InvalidInput`."""
    file = os.environ.get("AIAAS_CA_FILE", "").strip()
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"AIAAS_CA_FILE is {file!r}, which cannot be used: {error.strerror or error}.",
            remedy="Set it to a PEM file with the certificate of the platform's authority.",
        ) from error


def _is_address(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def segment(text: str) -> str:
    """One path segment: hub user names may hold characters that a path may not."""
    return quote(text, safe="")


class Transport:
    """A connection pool to the service, below `/api/v1`."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: httpx.Timeout = TIMEOUT,
        attempts: int = _ATTEMPTS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = connection.url
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=f"{connection.url}/api/v1",
            headers={
                "Authorization": f"Bearer {connection.token}",
                "User-Agent": f"aiaas-magics/{__version__}",
            },
            timeout=timeout,
            # The service is never reached through a proxy for the outside world, and a redirect
            # would only lead to a login page: both would send the token elsewhere.
            trust_env=False,
            verify=trusted(),
            follow_redirects=False,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        answer: type[M],
        *,
        query: Query | None = None,
        body: BaseModel | None = None,
        content: bytes | Path | None = None,
    ) -> M:
        """Send one request and read its answer as `answer`.

        Repeats after a lost connection or a gateway's error are harmless: a POST carries the
        same `Idempotency-Key` each time. Raises `AiaasError`.
        """
        headers = {}
        if method == "POST":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = body.model_dump_json().encode()
        elif content is not None:
            headers["Content-Type"] = "application/octet-stream"

        def send() -> httpx.Response:
            response = self._http.request(
                method,
                path,
                params=_present(query),
                headers=headers,
                content=_stream_file(content) if isinstance(content, Path) else content,
                timeout=self._timeout_of(path),
            )
            raise_for_error(response)
            return response

        response = self._repeat(send)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise _foreign_answer(response) from error

    def pages(self, path: str, item: type[M], *, query: Query | None = None) -> Iterator[M]:
        """All items of a list, fetched page by page as they are asked for."""
        cursor: str | None = None
        while True:
            page = self.call("GET", path, Page[item], query={**(query or {}), "cursor": cursor})  # type: ignore[valid-type]
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def download(
        self,
        path: str,
        target: Path,
        *,
        query: Query | None = None,
        body: BaseModel | None = None,
    ) -> httpx.Headers:
        """Write an answer's body to a file; its headers. With a `body` it is asked by a POST,
        which changes nothing there."""
        arguments: dict[str, Any] = {"params": _present(query), "timeout": self._timeout_of(path)}
        if body is not None:
            arguments["content"] = body.model_dump_json().encode()
            arguments["headers"] = {"Content-Type": "application/json"}

        def receive() -> httpx.Headers:
            method = "GET" if body is None else "POST"
            with self._http.stream(method, path, **arguments) as response:
                if response.is_error:
                    response.read()
                raise_for_error(response)
                with target.open("wb") as file:
                    for chunk in response.iter_bytes(_CHUNK):
                        file.write(chunk)
                return response.headers

        return self._repeat(receive)

    @contextmanager
    def events(self, path: str, *, query: Query | None = None) -> Iterator[Iterator[Event]]:
        """A stream of server-sent events, once: whoever reads it resumes by its own offsets.

        The end of the stream says nothing about the thing it tells of.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        with (
            as_aiaas_errors(self.url),
            self._http.stream(
                "GET", path, params=_present(query), headers=headers, timeout=STREAM_TIMEOUT
            ) as response,
        ):
            if response.is_error:
                response.read()
            raise_for_error(response)
            yield (Event.of(event) for event in EventSource(response).iter_sse())

    def _timeout_of(self, path: str) -> httpx.Timeout:
        if not path.endswith(_BULK_PATHS):
            return self._http.timeout
        limits = self._http.timeout.as_dict()
        return httpx.Timeout(**{**limits, "read": _BULK_SECONDS})

    def _repeat(self, send: Callable[[], T]) -> T:
        with as_aiaas_errors(self.url):
            for attempt in Retrying(
                retry=retry_if_exception(_is_passing),
                stop=stop_after_attempt(self._attempts),
                wait=wait_random_exponential(multiplier=0.2, max=2),
                reraise=True,
            ):
                with attempt:
                    return send()
        raise AssertionError("unreachable: the last attempt returns or raises")


T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """A server-sent event: its name and its JSON text."""

    name: str
    data: str

    @classmethod
    def of(cls, event: ServerSentEvent) -> Event:
        return cls(event.event, event.data)


@contextmanager
def as_aiaas_errors(url: str) -> Iterator[None]:
    """Say httpx's errors in our words. Which token was sent is in none of them."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise Unavailable(
            f"The platform at {url} did not answer in time.",
            remedy="It may be busy: try again in a moment.",
        ) from error
    except (httpx.TransportError, httpx.StreamError, SSEError) as error:
        raise Unavailable(
            f"The platform at {url} cannot be reached: {error or type(error).__name__}.",
            remedy="Check that it is up ('aiaas doctor' on its machine), then try again.",
        ) from error


def _is_passing(error: BaseException) -> bool:
    """Whether trying again soon may help: nobody was there, or a proxy in between answered.

    An answer that does not come in time is none of these: the service is still at work on it.
    """
    if isinstance(error, httpx.ReadTimeout):
        return False
    return isinstance(error, httpx.TransportError) or (
        isinstance(error, Unavailable) and not error.request_id
    )


def raise_for_error(response: httpx.Response) -> None:
    """Raise the `AiaasError` that an answer stands for, if it is no success; its body is read."""
    if response.is_success:
        return
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValidationError:
        raise _foreign_answer(response) from None
    raise from_body(body)


def _foreign_answer(response: httpx.Response) -> AiaasError:
    """The error for an answer that is not the service's: from a proxy, or a login page."""
    status = response.status_code
    where = f"{response.request.method} {response.request.url.path}"
    if status in (502, 503, 504):
        return Unavailable(
            f"The platform's service is not up (HTTP {status}).",
            remedy="It may be starting: try again in a moment.",
        )
    if status in (301, 302, 303, 307, 308, 401):
        return Unauthenticated(
            "The hub did not accept this notebook's token.",
            remedy="Restart your server from the hub's Home page: that makes a new token.",
        )
    if status == 403:
        return Forbidden(f"The hub refused {where}.", remedy="Ask the platform's operator.")
    if status == 404:
        return NotFound(
            f"There is nothing at {where}.",
            remedy="Check that AIAAS_URL ends in /services/aiaas and that the platform and "
            "aiaas-hub in this notebook are of the same release.",
        )
    if status == 413:
        return TooLarge(
            "The upload is larger than a proxy on the way accepts.",
            remedy="Send less, or ask the operator to raise the limit.",
        )
    return InternalError(
        f"The answer to {where} (HTTP {status}) is not one of this platform's.",
        remedy="Check AIAAS_URL, and that the platform and aiaas-hub in this notebook are of the "
        "same release.",
    )


def _present(query: Query | None) -> dict[str, str | int]:
    return {name: value for name, value in (query or {}).items() if value is not None}


def _stream_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def decode(data: str, kind: type[M]) -> M:
    """An event's JSON as a wire model. Raises `InternalError` when it is not one."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        summary = json.dumps(data[:80])
        raise InternalError(
            f"The platform sent an event that this client does not understand: {summary}.",
            remedy="Update aiaas-hub in this notebook to the release of the platform.",
        ) from error
