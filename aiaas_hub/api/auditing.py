"""Every changing request in the audit log: once before its effect, once with its result.

Whoever finds out who asks (`identity.identify`, a job's token) calls `begin` before the route's own
code runs. If the entry cannot be written, the request is refused and nothing has happened.
`Audited` writes the result before the answer goes out.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiaas_hub.api.errors import request_id
from aiaas_hub.domain.auditing import Act, AuditRecords
from aiaas_hub.schemas.audit import Outcome, Via
from aiaas_hub.schemas.errors import Unavailable

log = logging.getLogger(__name__)

UNRECORDED = {
    "plan_run": "changes nothing",
    "query": "changes nothing",
    "upload_piece": "a part of an upload, whose completion is recorded",
    "add_job_metrics": "what a run measures, many times a minute; it is kept with the run",
    "add_job_usage": "likewise",
    "add_job_log": "likewise",
}
"""Operations that are no acts of anybody's, with the reason; all other changes are recorded."""

_PARTS = {"version": "versions", "tag": "tags", "alias": "aliases", "key_id": "keys"}
_STATE = "aiaas.act"
_MADE = ("id", "owner", "name", "version", "latest_version", "digest")
"""Fields of an answer that say what came of it. Nothing else of a body is ever looked at."""
_LARGEST_ANSWER = 1 << 20


def is_recorded(method: str, operation: str) -> bool:
    return method not in ("GET", "HEAD", "OPTIONS") and operation not in UNRECORDED


async def begin(request: Request, actor: str, via: Via, owner: str | None = None) -> None:
    """Record that this request's act begins. Raises `Unavailable` where that is not possible."""
    operation = getattr(request.scope.get("endpoint"), "__name__", "")
    if _STATE in request.scope or not is_recorded(request.method, operation):
        return
    parts = request.path_params
    act = Act(
        actor=actor,
        via=via,
        act=operation,
        object=_object(request.url.path, parts),
        owner=parts.get("owner", actor) if owner is None else owner,
        outcome=Outcome.BEGUN,
        request_id=request_id.get(),
        origin=_origin(request),
    )
    records: AuditRecords = request.app.state.services.audit
    await anyio.to_thread.run_sync(records.append, act)
    request.scope[_STATE] = act


def _object(path: str, parts: Mapping[str, str]) -> str:
    """`endpoints/ada/digits/keys/…`: the collection and what of it the path names."""
    kind = path.partition("/api/v1/")[2].partition("/")[0]
    named = [parts[part] for part in ("owner", "name", "run_id") if part in parts]
    more = [
        word for part, kinds in _PARTS.items() if part in parts for word in (kinds, parts[part])
    ]
    return "/".join([kind, *named, *more])


def _origin(request: Request) -> str:
    """The caller's address: the last one that was forwarded is what our own proxy saw; those
    before it anybody may have written."""
    peer = request.client.host if request.client else ""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return _address(forwarded) or _address(peer)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.removeprefix("::ffff:")))
    except ValueError:
        return ""


class Audited:
    """Writes the second entry of each act, with its result."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def told(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                # Held back until the body says what was made.
                start = message
                return
            if start is not None:
                await _end(scope, start["status"], message)
                held, start = start, None
                await send(held)
            await send(message)

        try:
            await self._app(scope, receive, told)
        except Exception:
            await _end(scope, 500, {})
            raise


async def _end(scope: Scope, status: int, message: Message) -> None:
    begun: Act | None = scope.pop(_STATE, None)
    if begun is None:
        return
    detail: dict[str, str | int] = {"status": status}
    if status < 400:
        detail |= _made(message)
    outcome = Outcome.DONE if status < 400 else Outcome.REFUSED if status < 500 else Outcome.FAILED
    ended = Act(
        actor=begun.actor,
        via=begun.via,
        act=begun.act,
        object=begun.object,
        owner=begun.owner,
        outcome=outcome,
        request_id=begun.request_id,
        origin=begun.origin,
        detail=detail,
    )
    records: AuditRecords = scope["app"].state.services.audit
    try:
        await anyio.to_thread.run_sync(records.append, ended)
    except Unavailable:
        # It has happened and its beginning is on record; the answer must not say otherwise.
        log.error("The result of request %s could not be recorded", begun.request_id)


def _made(message: Message) -> dict[str, Any]:
    body = message.get("body", b"")
    if message.get("more_body") or len(body) > _LARGEST_ANSWER:
        return {}
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(answer, dict):
        return {}
    return {name: answer[name] for name in _MADE if isinstance(answer.get(name), str | int)}
