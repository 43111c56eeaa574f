"""Where the gateway sends what callers ask of an endpoint that sleeps: a socket of the service's in
a private directory. See `aiaas_hub.gateway.waking`."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from aiaas_hub.adapters import run_directory
from aiaas_hub.gateway.waking import REDIRECT
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import AiaasError, InternalError, Unavailable, to_body

log = logging.getLogger(__name__)

NAME = "waker"
RETRY_SECONDS = 5
_CHUNK = 1 << 20

Wake = Callable[[str, str], None]
"""Owner and endpoint. Returns when it is awake; raises what its callers are told."""


def socket_of(home: Home) -> Path:
    return run_directory.run_directory(home, NAME) / "http"


class Waker:
    """A thread of the service for each caller who waits; Envoy bounds how many there are."""

    def __init__(self, home: Home, wake: Wake) -> None:
        self._home = home
        self._wake = wake
        self._server: _Server | None = None

    def start(self) -> None:
        try:
            path = socket_of(self._home)
        except Unavailable as error:
            # Then nothing can be served; all else goes on.
            log.warning("No endpoint can be woken: %s", error)
            return
        # Of a service that was killed.
        path.unlink(missing_ok=True)
        self._server = _Server(str(path), _handler(self._wake))
        threading.Thread(target=self._server.serve_forever, name="waker", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            run_directory.remove(self._home, NAME)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    # Who waits for a model is not to be kept from waiting.
    request_queue_size = 128
    block_on_close = False


def _handler(wake: Wake) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            # Envoy keeps it, too, and sends it to Triton.
            left = int(self.headers.get("Content-Length") or 0)
            while left > 0 and (read := self.rfile.read(min(left, _CHUNK))):
                left -= len(read)
            # The route's pattern has this beginning.
            _, owner, endpoint, *_ = map(unquote, f"{self.path}//".split("/"))
            try:
                wake(owner, endpoint)
            except AiaasError as error:
                self._refuse(error)
            except Exception:
                log.exception("An endpoint could not be woken")
                self._refuse(
                    InternalError("The endpoint could not be woken.", remedy="Its log says why.")
                )
            else:
                address = f"http://{self.headers.get('Host', '')}{self.path}"
                self._send(REDIRECT, {"Location": address}, b"")

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

        def _refuse(self, error: AiaasError) -> None:
            headers = {"Content-Type": "application/json"}
            if isinstance(error, Unavailable):
                headers["Retry-After"] = str(RETRY_SECONDS)
            told = to_body(error, self.headers.get("X-Request-Id", "")).error
            # As the gateway's own refusals and the Open Inference Protocol have it.
            body = {
                "error": told.message,
                "code": told.code,
                "remedy": told.remedy,
                "request_id": told.request_id,
            }
            self._send(error.status, headers, json.dumps(body).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def address_string(self) -> str:
            return "gateway"

        def log_message(self, *_: object) -> None:
            """The service logs what it wakes."""

    return Handler
