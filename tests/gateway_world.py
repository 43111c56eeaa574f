"""Envoy before Triton, or before a stand-in that says what reached it."""

from __future__ import annotations

import http.client
import http.server
import json
import socketserver
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import onnx_models

from aiaas_hub.adapters.envoy_local import EnvoyLocal
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.translator.engine import TranslatorLocal
from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.domain.ports import Engine, Route, RouteTarget
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.home import Home
from aiaas_hub.schemas.endpoints import KeyScope
from aiaas_hub.schemas.platform import EngineState

OWNER = "testuser<'&\">"
AUDIENCE = f"{OWNER}/scale"
BASE = f"/{quote(OWNER, safe='')}/scale"
MODEL = "scale-1"
SIGNATURE = onnx_models.SCALE_SIGNATURE
INFER = f"{BASE}/v2/models/scale/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
)


def wait_ready(engine: Engine) -> None:
    deadline = time.monotonic() + 300
    while (health := engine.health()).state is not EngineState.READY:
        assert time.monotonic() < deadline, health
        time.sleep(0.02)


def route(*shares: tuple[int, int], revoked: tuple[str, ...] = ()) -> Route:
    targets = [RouteTarget(MODEL, version, percent) for version, percent in shares]
    return Route(OWNER, "scale", targets, AUDIENCE, revoked)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class World:
    """Both engines on one home, three versions of a model loaded, and somebody's keys."""

    home: Home
    supervisor: Supervisor
    triton: TritonLocal
    envoy: EnvoyLocal
    keys: GatewayKeys = field(init=False)
    translator: TranslatorLocal = field(init=False)
    reached: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers and body of what came to a stand-in for Triton."""

    def __post_init__(self) -> None:
        self.keys = GatewayKeys(self.home)
        self.translator = TranslatorLocal(self.home, self.supervisor)

    def key(
        self,
        audience: str = AUDIENCE,
        jti: str = "k1",
        minutes: float = 10,
        scope: str = KeyScope.INFER,
    ) -> str:
        expires = datetime.now(UTC) + timedelta(minutes=minutes)
        return self.keys.sign(audience, jti, "ann", expires, scope)

    def call(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`path` is sent as it stands. `key`: "" a good one, None none."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key or self.key()}"
        connection = http.client.HTTPConnection(self.envoy.url.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()


def error_of(answer: Answer) -> str:
    """The code; every refusal of the gateway has the one shape."""
    body = answer.json
    assert sorted(body) == ["code", "error", "remedy", "request_id"]
    assert isinstance(body["error"], str)  # as the Open Inference Protocol has it
    return str(body["code"])


class Echo(http.server.BaseHTTPRequestHandler):
    """Stands in for Triton and says what reached it."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length)
        assert isinstance(self.server, UnixServer)
        self.server.reached.append((self.path, dict(self.headers.items()), sent))
        if "broken" in (self.headers.get("x-test") or "") and "/versions/9/" in self.path:
            self.close_connection = True
            return
        if "slow" in (self.headers.get("x-test") or ""):
            time.sleep(0.5)
        body = json.dumps({"path": self.path, "headers": dict(self.headers.items())}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Aiaas-Model-Version", "from behind")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as overridden
        pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    reached: list[tuple[str, dict[str, str], bytes]]
    # All that a flood of a test brings: beyond it a unix socket refuses.
    request_queue_size = 128
