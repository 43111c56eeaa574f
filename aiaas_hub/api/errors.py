"""The one error shape, and the request's id that goes with it."""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiaas_hub.api.bearer import bearer
from aiaas_hub.schemas.errors import (
    AiaasError,
    DiskFull,
    InternalError,
    InvalidInput,
    NotFound,
    TooLarge,
    is_of_a_full_disk,
    to_body,
)

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = b"x-request-id"
MAX_BODY_BYTES = 8 << 20
"""Of every body but uploads, which have a limit of their own."""

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


def error_response(error: AiaasError) -> JSONResponse:
    return JSONResponse(
        to_body(error, request_id.get()).model_dump(),
        status_code=error.status,
        headers={"WWW-Authenticate": "Bearer"} if error.status == 401 else None,
    )


class RequestBoundary:
    """Gives each request an id, limits its body, and turns what goes wrong into our shape."""

    def __init__(self, app: ASGIApp, unlimited: str, public: frozenset[str]) -> None:
        self._app = app
        self._unlimited = unlimited
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(REQUEST_ID_HEADER, b"").decode("latin-1")
        # Taken over only if it cannot forge a log line.
        valid = re.fullmatch(r"[A-Za-z0-9_-]{8,64}", given)
        identifier = given if valid else secrets.token_hex(8)
        request_id.set(identifier)
        started = False
        received = 0
        limit = None if scope["path"] == self._unlimited else MAX_BODY_BYTES
        too_large = TooLarge(
            f"A request's body has at most {MAX_BODY_BYTES // 2**20} MiB.",
            remedy="Upload large content through /blobs.",
        )

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if limit is not None and received > limit:
                raise too_large
            return message

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [
                    *message.get("headers", []),
                    (REQUEST_ID_HEADER, identifier.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            if scope["path"] not in self._public:
                # Before a body is read: strangers do not get theirs parsed.
                bearer(scope)
            announced = dict(scope["headers"]).get(b"content-length", b"0")
            if limit is not None and int(announced) > limit:
                raise too_large
            await self._app(scope, limited, marked)
        except Exception as error:
            if is_of_a_full_disk(error):
                log.error("Request %s: %s", identifier, error)
                error = DiskFull()
            if not isinstance(error, AiaasError):
                log.exception(
                    "Request %s failed: %s %r", identifier, scope["method"], scope["path"]
                )
                error = InternalError(
                    f"Something went wrong on the platform's side (request {identifier}).",
                    remedy="Try again; if it stays, give this id to whoever runs the platform.",
                )
            if started:
                raise
            await error_response(error)(scope, limited, marked)


def install(app: FastAPI) -> None:
    """Answer the framework's own errors in our shape too."""

    @app.exception_handler(AiaasError)
    async def ours(_request: Request, error: AiaasError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(InvalidInput(_sentence(error.errors())))

    @app.exception_handler(HTTPException)
    async def framework(_request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return error_response(NotFound("There is no such address.", remedy="See openapi.json."))
        kind = InvalidInput(str(error.detail), remedy="See openapi.json.")
        response = error_response(kind)
        response.status_code = error.status_code
        return response


def _sentence(errors: Any) -> str:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
