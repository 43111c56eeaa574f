"""What the hub tells the service's audit log: sign-ins, servers, what is changed through the hub.

`record_sign_in` is the authenticator's `post_auth_hook`: it writes before anybody is signed in, and
who cannot be recorded is not. `recorded` wraps the function that the hub calls after each request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from jupyterhub.handlers.login import LogoutHandler
from tornado import web

from aiaas_hub.adapters.hub_events import HubEvent, HubEvents
from aiaas_hub.schemas.audit import Outcome

log = logging.getLogger(__name__)

_NOISE = ("/activity", "/oauth2/token", "/oauth2/authorize", "/hub/security/csp-report")
"""Endings of paths that servers and browsers call by themselves."""


def record_sign_in(events: HubEvents) -> Callable[[Any, Any, Any], Any]:
    """A `post_auth_hook`."""

    def record(_authenticator: Any, handler: Any, model: Any) -> Any:
        name = str(model["name"])
        try:
            events.tell(_sign_in(name, handler, Outcome.DONE))
        except OSError as error:
            log.error("A sign-in of %s cannot be recorded: %s", name, error)
            raise web.HTTPError(
                503, "Nobody can sign in now: it could not be recorded. Try again in a moment."
            ) from error
        return model

    return record


def recorded(log_request: Callable[[Any], None], events: HubEvents) -> Callable[[Any], None]:
    """`log_request`, and an event for each request that changed something in the hub."""

    def record(handler: Any) -> None:
        log_request(handler)
        event = _event(handler)
        if event is None:
            return
        try:
            events.tell(event)
        except OSError as error:
            log.error("%s %s is not recorded: %s", event.act, event.object, error)

    return record


def record_sign_outs(events: HubEvents) -> None:
    """From now on sign-outs of this hub process are recorded.

    JupyterHub 6.1 has no hook for them, and has forgotten who it was when the request is logged.
    Remove this when it has one.
    """

    forget = LogoutHandler._backend_logout_cleanup

    def record_and_forget(handler: Any, name: str) -> None:
        try:
            events.tell(
                HubEvent(
                    actor=name,
                    act="sign-out",
                    object=f"users/{name}",
                    owner=name,
                    outcome=Outcome.DONE,
                    origin=handler.request.remote_ip,
                )
            )
        except OSError as error:
            # Nobody is kept signed in for want of a record.
            log.error("A sign-out of %s is not recorded: %s", name, error)
        forget(handler, name)

    LogoutHandler._backend_logout_cleanup = record_and_forget


def _event(handler: Any) -> HubEvent | None:
    method, path, status = handler.request.method, handler.request.path, handler.get_status()
    if (path.endswith("/hub/login") and method == "POST") or path.endswith("/hub/oauth_callback"):
        # Successes are the hook's.
        return _sign_in(_known(handler), handler, Outcome.REFUSED) if status >= 400 else None
    name = _name(handler)
    if method in ("GET", "HEAD", "OPTIONS") or path.endswith(_NOISE) or not name:
        return None
    what = unquote(path.partition("/hub/")[2].removeprefix("api/"))
    parts = what.split("/")
    return HubEvent(
        actor=name,
        act=f"hub {method} {parts[0]}",
        object=what,
        owner=parts[1] if parts[0] == "users" and len(parts) > 1 else "",
        outcome=Outcome.DONE
        if status < 400
        else Outcome.REFUSED
        if status < 500
        else Outcome.FAILED,
        origin=handler.request.remote_ip,
        detail={"status": status},
    )


def _sign_in(name: str, handler: Any, outcome: Outcome) -> HubEvent:
    return HubEvent(
        actor=name,
        act="sign-in",
        object=f"users/{name}",
        owner=name,
        outcome=outcome,
        origin=handler.request.remote_ip,
    )


def _known(handler: Any) -> str:
    """The name that was tried, if it is a user's: people type passwords into that field too."""
    tried = handler.get_body_argument("username", "") if handler.request.method == "POST" else ""
    tried = handler.authenticator.normalize_username(tried)
    return tried if tried and handler.find_user(tried) is not None else ""


def _name(handler: Any) -> str:
    try:
        user = handler.current_user
    except (web.HTTPError, RuntimeError):
        return ""  # nobody who could change anything
    return "" if user is None else str(getattr(user, "name", user))
