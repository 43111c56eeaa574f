"""The page: how things are, for oneself; for administrators, everybody's. It changes nothing.

A cookie opens this page and nothing else: the API looks at no cookie, and these routes answer GET
alone. No script runs here, and the policy sent with it would let none run.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, RedirectResponse, Response

import aiaas_hub
from aiaas_hub.api.identity import Identity, Principal, Scope
from aiaas_hub.api.services import Services
from aiaas_hub.domain.auditing import AuditFilter, without_beginnings
from aiaas_hub.domain.usage import report
from aiaas_hub.page.sessions import SESSION_SECONDS, SIGN_IN_SECONDS, Sessions
from aiaas_hub.schemas.errors import Unauthenticated
from aiaas_hub.schemas.usage import GroupBy

SESSION_COOKIE = "aiaas-page"
SIGN_IN_COOKIE = "aiaas-page-sign-in"
_ENTRIES = 50
_ROWS = 200

_templates = Environment(loader=PackageLoader("aiaas_hub.page", "."), autoescape=True)

Text = Annotated[str | None, Query(max_length=300)]


def routes(sessions: Sessions, services: Services, identity: Identity, prefix: str) -> APIRouter:
    """The page's own routes below `prefix`, which ends with a slash."""
    router = APIRouter(include_in_schema=False)

    @router.get(prefix)
    async def page(
        request: Request,
        actor: Text = None,
        owner: Text = None,
        act: Text = None,
        object: Text = None,  # noqa: A002 - the entry's field
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        caller = await _who(request)
        if caller is None:
            return _to_sign_in(request)
        caller.require(Scope.READ, caller.user)
        asked = {"actor": actor, "owner": owner, "act": act, "object": object}
        given = {name: text.replace("\0", "") for name, text in asked.items() if text}
        nonce = secrets.token_urlsafe(16)
        content = await anyio.to_thread.run_sync(_render, caller, given, cursor, nonce)
        return HTMLResponse(content, headers=_headers(nonce))

    @router.get(f"{prefix}oauth_callback")
    async def callback(
        request: Request,
        code: Annotated[str, Query(max_length=1000)] = "",
        state: Annotated[str, Query(max_length=1000)] = "",
    ) -> Response:
        browser = request.cookies.get(SIGN_IN_COOKIE, "")
        name, target = await sessions.finish(code, state, browser)
        response = RedirectResponse(target, status_code=303)
        response.delete_cookie(SIGN_IN_COOKIE, path=prefix)
        _set_cookie(request, response, SESSION_COOKIE, name, SESSION_SECONDS)
        return response

    async def _who(request: Request) -> Principal | None:
        name = request.cookies.get(SESSION_COOKIE, "")
        token = sessions.token(name)
        if token is None:
            return None
        caller = await identity.identify(token, fresh=False)
        if caller is None:
            # Revoked, or the hub has forgotten it: signed in anew.
            sessions.end(name)
        return caller

    def _to_sign_in(request: Request) -> Response:
        if request.query_params.get("error"):
            raise Unauthenticated("The hub refused this sign-in.", remedy="Open the page again.")
        address, browser = sessions.begin(prefix)
        response = RedirectResponse(address, status_code=302)
        _set_cookie(request, response, SIGN_IN_COOKIE, browser, SIGN_IN_SECONDS)
        return response

    def _set_cookie(
        request: Request, response: Response, name: str, value: str, seconds: float
    ) -> None:
        secure = request.headers.get("x-forwarded-proto", request.url.scheme).startswith("https")
        response.set_cookie(
            name, value, max_age=int(seconds), path=prefix, secure=secure, httponly=True,
            samesite="lax",
        )  # fmt: skip

    def _render(caller: Principal, asked: dict[str, str], cursor: str | None, nonce: str) -> str:
        everybody = caller.reads_all
        if not everybody:
            asked = {name: text for name, text in asked.items() if name in ("act", "object")}
        mine = None if everybody else caller.user
        since, now = services.budgets.period()[0], datetime.now(UTC)
        spans = services.usage.spans(None if mine is None else [mine], since)
        by = GroupBy.USER if everybody else GroupBy.DAY
        usage = report(spans, since, now, by, mine, services.members.groups())
        usage.lines = usage.lines[:_ROWS]
        costs = [line.cost if usage.total.cost else line.hours for line in usage.lines]
        which = AuditFilter(**({"owner": mine} | asked if mine else asked))  # type: ignore[arg-type]
        found = services.audit.page(which, cursor, _ENTRIES)
        # How something ended may be on the page before this one.
        later = services.audit.following(found.items[0].number, _ENTRIES) if found.items else ()
        following = ""
        if found.next_cursor:
            following = "?" + urlencode({**asked, "cursor": found.next_cursor})
        runs = [run for run in services.run_records.contenders() if mine in (None, run.owner)]
        served = [one for one, _ in services.endpoint_records.routed() if mine in (None, one.owner)]
        return _templates.get_template("page.html").render(
            nonce=nonce,
            user=caller.user,
            admin=everybody,
            hub_home=f"{prefix.rstrip('/').rpartition('/services/')[0]}/hub/home",
            version=aiaas_hub.__version__,
            engines=services.engines(),
            allowances=_allowances(caller.user if mine else None),
            usage=usage,
            most=max(costs, default=0) or 1,
            runs=runs[:_ROWS],
            endpoints=served[:_ROWS],
            asked=asked,
            entries=without_beginnings(found.items, later),
            following=following,
        )

    def _allowances(user: str | None) -> Sequence[tuple[str, Any]]:
        users = [user] if user is not None else sorted(services.members.groups())[:_ROWS]
        return [(one, allowance) for one in users for allowance in services.budgets.allowances(one)]

    return router


def _headers(nonce: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": f"default-src 'none'; style-src 'nonce-{nonce}'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
