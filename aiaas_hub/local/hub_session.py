"""A person's visit to a hub over HTTP: sign in, start a server, use it. As a browser would."""

from __future__ import annotations

import ssl
import threading
import time
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from aiaas_hub.schemas.errors import Unauthenticated, Unavailable


class HubSession:
    """Cookies and XSRF tokens of one signed-in user. A context manager."""

    def __init__(self, url: str, user: str, tls: ssl.SSLContext | bool = True) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self.tls = tls
        # `trust_env` off: an HTTP proxy of the environment does not lead to our loopback.
        self.http = httpx.Client(
            base_url=self.url, follow_redirects=True, timeout=60, trust_env=False, verify=tls
        )

    def __enter__(self) -> HubSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.http.close()

    @property
    def server_path(self) -> str:
        """Path of the user's server, percent-encoded as the hub does it."""
        return f"/user/{quote(self.user, safe='@~')}"

    def sign_in(self, password: str) -> None:
        """Raise `Unauthenticated` if the hub does not accept it."""
        self.http.get("/hub/login").raise_for_status()
        answer = self.http.post(
            "/hub/login",
            params={"next": "/hub/home"},
            data={"username": self.user, "password": password, "_xsrf": self.xsrf("/hub/")},
        )
        if answer.status_code in (401, 403) or answer.url.path.endswith("/login"):
            raise Unauthenticated(
                f"The hub does not accept {self.user!r} with this password.",
                remedy="The password is in platform.json of the platform's home.",
            )
        answer.raise_for_status()

    def spawn_page(self) -> str:
        """The page where a profile is chosen, as HTML."""
        answer = self.http.get("/hub/spawn")
        answer.raise_for_status()
        return answer.text

    def request_server(self, profile: str | None) -> httpx.Response:
        """Send the spawn page's form; the hub's answer, refusals included."""
        self.spawn_page()
        form = {"_xsrf": self.xsrf("/hub/")}
        if profile is not None:
            form["profile"] = profile
        return self.http.post("/hub/spawn", params={"_xsrf": form["_xsrf"]}, data=form)

    def spawn(
        self,
        profile: str,
        *,
        timeout: float = 120,
        stop_requested: threading.Event | None = None,
    ) -> None:
        """Start the user's server and return when JupyterLab answers from it.

        `Unavailable`: it does not, or `stop_requested` was set meanwhile.
        """
        stop_requested = stop_requested or threading.Event()
        answer = self.request_server(profile)
        if answer.is_error:
            raise Unavailable(
                f"The hub refuses to start a server with profile {profile!r} "
                f"(HTTP {answer.status_code}).",
                remedy="The hub's log says why.",
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            lab = self.http.get(f"{self.server_path}/lab")
            # While the server starts, the hub answers 200 here with a page of its own.
            if lab.status_code == 200 and "jupyter-config-data" in lab.text:
                return
            if stop_requested.wait(0.2):
                raise Unavailable("Stopped while the notebook server was starting.")
        raise Unavailable(
            f"The notebook server does not answer after {timeout:.0f} s.",
            remedy="The hub's log says why.",
        )

    def xsrf(self, path: str) -> str:
        """The XSRF token that belongs to this path (the hub and each server have their own)."""
        matching = [
            cookie
            for cookie in self.http.cookies.jar
            if cookie.name == "_xsrf" and path.startswith(cookie.path)
        ]
        if not matching:
            return ""
        return max(matching, key=lambda cookie: len(cookie.path)).value or ""

    def server_request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Call the user's server, such as `api/kernels`."""
        return self.http.request(
            method, f"{self.server_path}/{path}", headers=self.server_headers(), **arguments
        )

    def server_headers(self) -> dict[str, str]:
        return {"X-XSRFToken": self.xsrf(f"{self.server_path}/")}

    def websocket(self, path: str, **query: str) -> tuple[str, dict[str, str], str]:
        """Address, headers and cookies to open a websocket of the user's server with."""
        scheme, _, rest = self.url.partition("://")
        address = f"{'wss' if scheme == 'https' else 'ws'}://{rest}{self.server_path}/{path}"
        full_path = f"{self.server_path}/{path}"
        cookies = {
            cookie.name: cookie.value or ""
            for cookie in sorted(self.http.cookies.jar, key=lambda cookie: len(cookie.path))
            if full_path.startswith(cookie.path)
        }
        joined = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return f"{address}?{urlencode(query)}", self.server_headers(), joined
