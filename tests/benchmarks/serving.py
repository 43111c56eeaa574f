"""The gateway beside raw Triton and FastAPI with onnxruntime, and publishing while it serves.

    python tests/benchmarks/serving.py [ROUNDS] [PUBLISHES]

The digits CNN (8 by 8 pixels, one row per request, binary tensors), one client and eight. The
servers take turns, round by round, so that all meet the same machine; figures are the medians of
the rounds. Raw Triton is called by TCP, as FastAPI and the gateway are: `triton_socket` is what it
does on the unix socket by which the gateway reaches it, and which no caller elsewhere could use.
Then versions are published and routed to and fro, and the service rolls back and refuses broken
ones, under a client that never pauses. pytriton is not among them: it asks for numpy before 2.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
import tritonclient.http
from gateway_world import World, wait_ready
from serving_platform import OWNER, Platform, platform_running
from torch import nn

from aiaas_hub.adapters.envoy_local import EnvoyLocal
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.adapters.triton_local.environment import ServingEnvironment
from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.home import Home
from aiaas_hub.loopback import free_ports
from aiaas_hub.schemas.endpoints import TrafficRequest
from aiaas_magics.runtime.exported import ExportedModel
from aiaas_magics.runtime.sources import export

SECONDS = 2.0
CLIENTS = (1, 8)
MODEL = "digits-1"
OTHER_ENDPOINTS = 1000
ROLLBACKS = 20
LIMITS = {
    "gateway_adds_ms": 0.25,
    "gateway_share_at_8": 0.7,
    "times_fastapi": 1.3,
    "publish_seconds": 1.0,
    "pause_ms": 50.0,
    "failures": 0,
    "rollback_ms": 100.0,
    "broken_refused": 5,
}

_FASTAPI = """
import sys
import numpy as np, onnxruntime as ort, uvicorn
from fastapi import FastAPI, Request, Response

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options)
name = session.get_inputs()[0].name
app = FastAPI()

@app.post("/predict")
async def predict(request: Request) -> Response:
    rows = np.frombuffer(await request.body(), np.float32).reshape(-1, 1, 8, 8)
    return Response(session.run(None, {name: rows})[0].tobytes())

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


def main(rounds: int = 3, publishes: int = 50) -> dict[str, Any]:
    """Measure, print and return the figures, their limits and whether they are kept."""
    with tempfile.TemporaryDirectory() as directory:
        exported = _exported(Path(directory))
        with _engines(Path(directory), exported) as world:
            with _raw_triton(Path(directory), exported) as raw:
                speed = _speed(world, exported, raw, rounds)
            crowded = _crowded(world, exported, rounds)
            published = _publishing(world, exported, publishes)
        decided = _deciding(Path(directory))
    one, eight = ({name: found[c] for name, found in speed.items()} for c in CLIENTS)
    ratios = {
        "gateway_adds_ms": round(one["gateway"]["p50_ms"] - one["triton"]["p50_ms"], 3),
        "gateway_share_at_8": round(
            eight["gateway"]["per_second"] / eight["triton"]["per_second"], 2
        ),
        "times_fastapi": round(eight["gateway"]["per_second"] / eight["fastapi"]["per_second"], 2),
    }
    result = {
        "speed": speed,
        "ratios": ratios,
        "crowded": crowded,
        "publishing": published,
        "deciding": decided,
        "limits": LIMITS,
        "ok": ratios["gateway_adds_ms"] <= LIMITS["gateway_adds_ms"]
        and ratios["gateway_share_at_8"] >= LIMITS["gateway_share_at_8"]
        and ratios["times_fastapi"] >= LIMITS["times_fastapi"]
        and published["publish_seconds"] <= LIMITS["publish_seconds"]
        and published["longest_pause_ms"] <= LIMITS["pause_ms"]
        and published["failures"] == 0
        and decided["rollback_ms"] <= LIMITS["rollback_ms"]
        and decided["broken_refused"] == LIMITS["broken_refused"]
        and decided["failures"] == 0,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return result


def _exported(directory: Path) -> ExportedModel:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 4 * 4, 10)),
    ).eval()
    return export(network, torch.rand(4, 1, 8, 8), directory=directory)


class _TritonByTcp(TritonLocal):
    """Triton as callers would reach it if there were no gateway."""

    def __init__(self, home: Home, supervisor: Supervisor) -> None:
        super().__init__(home, supervisor)
        [self.port] = free_ports(1)

    @property
    def http_socket(self) -> Path:
        """There once it has started: the gRPC's, as it has none for HTTP."""
        return self._sockets() / "grpc:1"

    def _argv(self, environment: ServingEnvironment, sockets: Path) -> list[str]:
        return [
            *(
                argument
                for argument in super()._argv(environment, sockets)
                if not argument.startswith("--http-address")
            ),
            "--http-address=127.0.0.1",
            f"--http-port={self.port}",
        ]


@contextlib.contextmanager
def _raw_triton(directory: Path, exported: ExportedModel) -> Iterator[int]:
    """The port of a Triton of its own."""
    home = Home(directory / "raw")
    home.prepare()
    triton = _TritonByTcp(home, Supervisor(home.processes, home.logs))
    try:
        triton.start()
        wait_ready(triton)
        triton.install(triton.stage(MODEL, 1, exported.signature, exported.onnx_path))
        triton.set_versions(MODEL, exported.signature, [1])
        yield triton.port
    finally:
        triton.shutdown()


@contextlib.contextmanager
def _engines(directory: Path, exported: ExportedModel) -> Iterator[World]:
    home = Home(directory / "home")
    home.prepare()
    supervisor = Supervisor(home.processes, home.logs)
    world = World(home, supervisor, TritonLocal(home, supervisor), EnvoyLocal(home, supervisor))
    try:
        world.triton.start()
        world.envoy.start()
        wait_ready(world.triton)
        wait_ready(world.envoy)
        _load(world, exported, 1, [1])
        _route(world, 1)
        yield world
    finally:
        world.envoy.shutdown()
        world.triton.shutdown()


def _load(world: World, exported: ExportedModel, version: int, keep: list[int]) -> None:
    staged = world.triton.stage(MODEL, version, exported.signature, exported.onnx_path)
    world.triton.install(staged)
    world.triton.set_versions(MODEL, exported.signature, keep)


def _route(world: World, version: int, former: int | None = None) -> None:
    targets = [RouteTarget(MODEL, version, 100)]
    if former is not None:
        targets.append(RouteTarget(MODEL, former, 0))
    world.envoy.apply([Route("ann", "digits", targets, "ann/digits")])


# Speed


def _speed(
    world: World, exported: ExportedModel, raw: int, rounds: int
) -> dict[str, dict[int, dict[str, Any]]]:
    """`raw`: the port of a Triton that has no gateway."""
    [port] = free_ports(1)
    program = [sys.executable, "-c", _FASTAPI, str(exported.onnx_path), str(port)]
    fastapi = subprocess.Popen(program)
    try:
        _wait_for(port, fastapi)
        body, head = _body(exported)
        rows = np.zeros((1, 1, 8, 8), np.float32).tobytes()
        key = world.key("ann/digits", minutes=60)
        gateway = world.envoy.url.removeprefix("http://")
        plain = _request(f"/v2/models/{MODEL}/versions/1/infer", body, head)
        targets = {
            "triton": (f"127.0.0.1:{raw}", plain),
            "triton_socket": (f"unix:{world.triton.http_socket}", plain),
            "gateway": (
                gateway,
                _request("/ann/digits/v2/models/m/infer", body, head, f"Bearer {key}"),
            ),
            "fastapi": (f"127.0.0.1:{port}", _request("/predict", rows, None)),
        }
        found: dict[str, dict[int, list[Any]]] = {
            name: {c: [] for c in CLIENTS} for name in targets
        }
        for turn in range(rounds + 1):
            for clients in CLIENTS:
                for name, (address, request) in targets.items():
                    measured = _load_of(address, request, clients)
                    # The first round warms everything up.
                    if turn:
                        found[name][clients].append(measured)
    finally:
        fastapi.terminate()
        fastapi.wait()
    return {
        name: {clients: _medians(runs) for clients, runs in by.items()}
        for name, by in found.items()
    }


def _crowded(world: World, exported: ExportedModel, rounds: int) -> dict[str, Any]:
    """The same endpoint alone and among others: its requests, and how long a change of route takes.
    A change of another endpoint is every owner's wait, since all are in one file."""
    body, head = _body(exported)
    key = world.key("ann/digits", minutes=60)
    request = _request("/ann/digits/v2/models/m/infer", body, head, f"Bearer {key}")
    address = world.envoy.url.removeprefix("http://")
    target = [RouteTarget(MODEL, 1, 100)]
    mine = Route("ann", "digits", target, "ann/digits")
    others = [
        Route(f"user{n}", "digits", target, f"user{n}/digits") for n in range(OTHER_ENDPOINTS)
    ]
    found: dict[str, Any] = {"others": OTHER_ENDPOINTS}
    for name, routes in (("alone", [mine]), ("among_others", [mine, *others])):
        world.envoy.apply(routes)
        runs = [_load_of(address, request, 1) for _ in range(rounds + 1)][1:]
        changes = []
        for turn in range(5):
            changed = replace(mine, revoked=[f"key-{turn}"])
            began = time.perf_counter()
            world.envoy.apply([changed, *routes[1:]])
            changes.append(time.perf_counter() - began)
        found[name] = {**_medians(runs), "change_ms": round(1000 * statistics.median(changes), 1)}
    world.envoy.apply([mine])
    return found


def _body(exported: ExportedModel) -> tuple[bytes, int]:
    (spec,) = exported.signature.inputs
    tensor = tritonclient.http.InferInput(spec.name, [1, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1, 8, 8), np.float32), binary_data=True)
    outputs = [
        tritonclient.http.InferRequestedOutput(output.name, binary_data=True)
        for output in exported.signature.outputs
    ]
    generate = tritonclient.http.InferenceServerClient.generate_request_body
    body, head = generate([tensor], outputs=outputs)
    return bytes(body), int(head)


def _request(path: str, body: bytes, head: int | None, key: str | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    if head is not None:
        lines.append(f"Inference-Header-Content-Length: {head}")
    if key is not None:
        lines.append(f"Authorization: {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _load_of(address: str, request: bytes, clients: int) -> Any:
    program = _load_program(address, request, clients, SECONDS)
    return json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


def _load_program(address: str, request: bytes, clients: int, seconds: float | None) -> list[str]:
    spec = {
        "address": address,
        "request": base64.b64encode(request).decode(),
        "connections": clients,
        "seconds": seconds,
    }
    return [sys.executable, str(Path(__file__).with_name("load.py")), json.dumps(spec)]


def _medians(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        with contextlib.suppress(OSError):
            connection.connect()
            connection.close()
            return
        assert process.poll() is None
        time.sleep(0.1)


# Publishing


def _publishing(world: World, exported: ExportedModel, count: int) -> dict[str, Any]:
    """`count` publishes with as many routes back, under load, as Triton and Envoy do them."""
    body, head = _body(exported)
    key = world.key("ann/digits", minutes=60)
    address = world.envoy.url.removeprefix("http://")
    request = _request("/ann/digits/v2/models/m/infer", body, head, f"Bearer {key}")
    # A process of its own: what the publishing side computes would hold up a thread beside it.
    client = subprocess.Popen(
        _load_program(address, request, 1, None),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    rows = {exported.signature.inputs[0].name: np.zeros((1, 1, 8, 8), np.float32)}
    took, rolled = [], []
    serving = 1
    try:
        for version in range(2, count + 2):
            began = time.perf_counter()
            _load(world, exported, version, [serving, version])
            world.triton.infer(MODEL, version, rows)
            took.append(time.perf_counter() - began)
            _route(world, version, serving)
            began = time.perf_counter()
            _route(world, serving, version)
            rolled.append(time.perf_counter() - began)
            _route(world, version, serving)
            world.triton.set_versions(MODEL, exported.signature, [version])
            serving = version
    finally:
        told, _ = client.communicate()
    found = json.loads(told)
    return {
        "publishes": count,
        "publish_seconds": round(statistics.median(took), 3),
        "publish_seconds_longest": round(max(took), 3),
        "route_ms": round(1000 * statistics.median(rolled), 1),
        "route_ms_longest": round(1000 * max(rolled), 1),
        "requests": found["requests"],
        "failures": found["failures"],
        "longest_pause_ms": found["longest_ms"],
    }


def _deciding(directory: Path) -> dict[str, Any]:
    """What the service decides, under load: rollbacks with their records, and five versions that
    must not serve. Two are no models; three load, and answer otherwise than their source."""
    with platform_running(Home(directory / "service")) as platform:
        for factor in (2.0, 3.0):
            platform.publish(factor)
        path = f"/{quote(OWNER, safe='')}/scale/v2/models/m/infer"
        tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
        body = json.dumps({"inputs": [tensor]}).encode()
        request = _request(path, body, None, f"Bearer {platform.key()}")
        address = platform.envoy.url.removeprefix("http://")
        client = subprocess.Popen(
            _load_program(address, request, 1, None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            rolled = [_rolled_back(platform) for _ in range(ROLLBACKS)]
            broken = [platform.publish_file(b"rubbish %d" % n, 2.0) for n in range(2)]
            broken += [platform.publish(4.0 + n, verified_as=2.0) for n in range(3)]
        finally:
            told, _ = client.communicate()
        serving = platform.call(platform.key()).headers["x-aiaas-model-version"]
    found = json.loads(told)
    return {
        "rollbacks": len(rolled),
        "rollback_ms": round(1000 * statistics.median(rolled), 1),
        "rollback_ms_longest": round(1000 * max(rolled), 1),
        "broken": len(broken),
        "broken_refused": sum(version.state == "failed" for version in broken)
        if serving == "2"
        else 0,
        "requests": found["requests"],
        "failures": found["failures"],
    }


def _rolled_back(platform: Platform) -> float:
    """Seconds from the word to the route; then version 2 has the requests again."""
    endpoints = platform.services.endpoints
    began = time.perf_counter()
    endpoints.roll_back(OWNER, "scale", "", by=OWNER, idempotency_key=None)
    took = time.perf_counter() - began
    endpoints.share_out(
        OWNER, "scale", TrafficRequest(traffic={2: 100}), by=OWNER, idempotency_key=None
    )
    return took


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:]))["ok"] else 1)
