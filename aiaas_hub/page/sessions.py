"""Signing in to the page through the hub: OAuth 2's authorization code with PKCE (RFC 6749, 7636).

JupyterHub's own code for this (`HubOAuth`) needs tornado. The token stays here; the browser gets a
random name for it. Neither reaches the API, which takes no cookie.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import ssl
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode

import httpx

from aiaas_hub.schemas.errors import Unauthenticated, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

SESSION_SECONDS = 3600.0
SIGN_IN_SECONDS = 600.0
_MOST = 10_000


@dataclass(frozen=True)
class OAuthClient:
    """What the hub tells its service about itself."""

    client_id: str
    secret: str
    authorize_url: str
    """As the browser reaches it."""
    token_url: str
    """As this service reaches it."""
    redirect_uri: str
    tls: ssl.SSLContext | bool = True
    """How hub and service prove who they are."""


class Expiring(Generic[T]):
    """Values by random names, for a while; of too many the oldest go."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def put(self, value: T) -> str:
        name = secrets.token_urlsafe(32)
        self._kept[name] = (time.monotonic() + self._seconds, value)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return name

    def get(self, name: str) -> T | None:
        found = self._kept.get(name)
        if found is None or found[0] < time.monotonic():
            self._kept.pop(name, None)
            return None
        return found[1]

    def take(self, name: str) -> T | None:
        """Once only."""
        value = self.get(name)
        self._kept.pop(name, None)
        return value


@dataclass(frozen=True)
class SignIn:
    """One that is under way: what only this browser may finish."""

    verifier: str
    browser: str
    target: str


class Sessions:
    def __init__(self, client: OAuthClient) -> None:
        self._client = client
        self._tokens: Expiring[str] = Expiring(SESSION_SECONDS)
        self._begun: Expiring[SignIn] = Expiring(SIGN_IN_SECONDS)

    def token(self, name: str) -> str | None:
        return self._tokens.get(name)

    def end(self, name: str) -> None:
        self._tokens.take(name)

    def begin(self, target: str) -> tuple[str, str]:
        """The hub's address to go to, and a secret for a cookie of this browser."""
        sign_in = SignIn(secrets.token_urlsafe(48), secrets.token_urlsafe(32), target)
        digest = hashlib.sha256(sign_in.verifier.encode()).digest()
        query = {
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_uri,
            "response_type": "code",
            "state": self._begun.put(sign_in),
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{self._client.authorize_url}?{urlencode(query)}", sign_in.browser

    async def finish(self, code: str, state: str, browser: str) -> tuple[str, str]:
        """A session's name and where to go. Raises `Unauthenticated` for a sign-in that this
        browser did not begin, that was finished already or that took too long."""
        begun = self._begun.take(state)
        if begun is None or not secrets.compare_digest(begun.browser, browser):
            raise Unauthenticated(
                "This sign-in was not begun here, or too long ago.", remedy="Open the page again."
            )
        # `trust_env` off: an HTTP proxy of the environment does not lead to our hub.
        async with httpx.AsyncClient(timeout=10, trust_env=False, verify=self._client.tls) as http:
            try:
                answer = await http.post(
                    self._client.token_url,
                    data={
                        "client_id": self._client.client_id,
                        "client_secret": self._client.secret,
                        "grant_type": "authorization_code",
                        "code": code,
                        "redirect_uri": self._client.redirect_uri,
                        "code_verifier": begun.verifier,
                    },
                )
            except httpx.HTTPError as error:
                raise Unavailable(
                    "The hub cannot be asked who you are right now.", remedy="Try again."
                ) from error
        if answer.status_code != 200:
            log.warning("The hub refused a sign-in to the page: %s", answer.status_code)
            raise Unauthenticated("The hub refused this sign-in.", remedy="Open the page again.")
        return self._tokens.put(str(answer.json()["access_token"])), begun.target
