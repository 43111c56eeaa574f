"""Models served by pods: Triton of the wheel, the gateway of the manifests, real requests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import onnx_models
import pytest
from bed.control_plane import ControlPlane
from object_store import object_store
from serving_pods import Serving, server_pods, serving

from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.domain.serving_names import serving_name
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.home import Home
from aiaas_hub.schemas.platform import EngineState

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

OWNER = "testuser<'&\">"
AUDIENCE = f"{OWNER}/scale"
SIGNATURE = onnx_models.SCALE_SIGNATURE
MODEL = serving_name(OWNER, "scale", SIGNATURE)
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
)


@dataclass
class World:
    serving: Serving
    keys: GatewayKeys
    directory: Path
    answers: list[tuple[int, str, float]] = field(default_factory=list)

    def publish(self, version: int) -> None:
        onnx = onnx_models.scale(self.directory / f"{version}.onnx", float(version))
        engine = self.serving.triton
        engine.install(engine.stage(MODEL, version, SIGNATURE, onnx))

    def route(self, *shares: tuple[int, int]) -> None:
        targets = [RouteTarget(MODEL, version, percent) for version, percent in shares]
        self.serving.envoy.apply([Route(OWNER, "scale", targets, AUDIENCE)])

    def call(self, client: httpx.Client | None = None, path: str = "infer") -> httpx.Response:
        key = self.keys.sign(AUDIENCE, "k", "ann", datetime.now(UTC) + timedelta(minutes=10))
        address = self.serving.gateways()[0]["status"]["podIP"]
        url = f"http://{address}:8080/{quote(OWNER, safe='')}/scale/v2/models/scale/{path}"
        headers = {"Authorization": f"Bearer {key}"}
        post = client.post if client else httpx.post
        return post(url, content=BODY, headers=headers, timeout=30)

    def factor(self) -> float:
        answer = self.call()
        assert answer.status_code == 200, answer.text
        return float(answer.json()["outputs"][0]["data"][0])


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("serving")
    home = Home(directory / "home")
    home.prepare()
    namespace = control_plane.namespace("test-serving")
    with (
        object_store(directory / "s3") as store,
        serving(control_plane, home, store, server_pods(namespace, store)) as found,
    ):
        found.triton.start()
        found.envoy.start()
        found.until(lambda: found.triton.health().state is EngineState.READY)
        found.until(lambda: found.envoy.health().state is EngineState.READY)
        yield World(found, GatewayKeys(home), directory)
    control_plane.api.delete(f"/api/v1/namespaces/{namespace}")


def test_a_model_is_served_by_every_pod(world: World) -> None:
    began = time.monotonic()
    world.publish(2)
    world.serving.triton.set_versions(MODEL, SIGNATURE, [2])
    print(f"loaded by both pods after {time.monotonic() - began:.2f} s")
    began = time.monotonic()
    world.route((2, 100))
    print(f"routed after {time.monotonic() - began:.2f} s")
    assert world.factor() == 2
    assert len(world.serving.servers()) == 2
