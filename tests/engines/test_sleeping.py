"""An endpoint that sleeps and wakes, with everything between its caller and its model."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import onnx_models
import psutil
import pytest
from gateway_world import wait_ready
from safetensors.numpy import save
from standins import StandInIdentity, StandInTraining

from aiaas_hub.adapters.envoy_local import EnvoyLocal
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.adapters.waker import Waker
from aiaas_hub.api.services import Services
from aiaas_hub.app import compose
from aiaas_hub.config import ServiceConfig
from aiaas_hub.domain.data_ports import BlobStore
from aiaas_hub.engines import Engines
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.home import Home
from aiaas_hub.reconcile import Pace, Reconciler
from aiaas_hub.schemas.endpoints import Endpoint, KeyCreate, PublishRequest, ServingOptions, Sleep
from aiaas_hub.schemas.models import ModelVersionCreate

pytestmark = pytest.mark.engines

OWNER = "testuser<'&\">"
X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)


@dataclass
class Platform:
    """The service without its web, on real engines."""

    home: Home
    supervisor: Supervisor
    triton: TritonLocal
    envoy: EnvoyLocal
    services: Services
    reconciler: Reconciler
    database: Database
    waker: Waker

    def begin(self) -> None:
        self.waker.start()
        self.reconciler.start()

    def end(self) -> None:
        self.reconciler.stop()
        self.waker.stop()
        self.database.close()

    def endpoint(self, name: str = "scale") -> Endpoint:
        return self.services.endpoints.get(OWNER, name)

    def publish(self, factor: float, idle: float | None, name: str = "scale") -> None:
        onnx = onnx_models.scale(self.home.root / "m.onnx", factor)
        rows = {"input.x": X, "output.y": factor * X, "output.total": (factor * X).sum(axis=1)}
        digests = []
        for content in (onnx.read_bytes(), save(rows)):
            path = self.home.root / "upload"
            path.write_bytes(content)
            blobs: BlobStore = self.services.blobs
            with path.open("rb") as file:
                digest, _ = blobs.put(file, limit=1 << 30)
            self.services.grants.grant(OWNER, digest)
            digests.append(digest)
        hand_over = ModelVersionCreate(
            onnx=digests[0],
            evaluation=digests[1],
            signature=onnx_models.SCALE_SIGNATURE,
            export_max_abs=0,
        )
        self.services.models.add_version(OWNER, name, hand_over, uploader=OWNER)
        request = PublishRequest(model=name, options=ServingOptions(idle_seconds=idle))
        self.services.endpoints.publish(
            OWNER, name, request, by=OWNER, may_read=lambda _: True, idempotency_key=None
        )
        self.reconciler.wake()
        wait(lambda: self.endpoint(name).versions[0].state == "serving")

    def key(self, name: str = "scale") -> str:
        request = KeyCreate(expires_in_days=1)
        made = self.services.endpoints.create_key(OWNER, name, request, OWNER, None)
        assert made.token is not None
        return made.token

    def call(self, key: str, name: str = "scale", rows: int = 1) -> httpx.Response:
        tensor = {
            "name": "x",
            "shape": [rows, 3],
            "datatype": "FP32",
            "data": X[:rows].ravel().tolist(),
        }
        return httpx.post(
            f"{self.envoy.url}/{quote(OWNER, safe='')}/{name}/v2/models/m/infer",
            json={"inputs": [tensor]},
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        )

    def instances(self) -> int:
        process = self.supervisor.process("triton")
        return 0 if process is None else len(psutil.Process(process.pid).children(recursive=True))

    def is_asleep(self, name: str = "scale") -> bool:
        return self.endpoint(name).sleep is Sleep.ASLEEP


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def platform_on(home: Home) -> Platform:
    """Another service on the same home goes on where the one before ended."""
    supervisor = Supervisor(home.processes, home.logs)
    triton, envoy = TritonLocal(home, supervisor), EnvoyLocal(home, supervisor)
    config = ServiceConfig(
        records_url=f"sqlite:///{home.root / 'records.sqlite'}",
        artifacts_url=str(home.artifacts / "blobs"),
    )
    engines = Engines(StandInTraining(), triton, envoy, GatewayKeys(home))
    app, reconciler, database = compose(
        home, config, engines, StandInIdentity(), "/services/aiaas/", None
    )
    reconciler._pace = Pace(engines=0.3, converge=1.0, restart=0.5)
    services: Services = app.state.services
    waker = Waker(home, services.sleeping.wake)
    return Platform(home, supervisor, triton, envoy, services, reconciler, database, waker)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    home = Home(tmp_path / "home")
    home.prepare()
    made = platform_on(home)
    made.begin()
    try:
        wait_ready(made.triton)
        wait_ready(made.envoy)
        yield made
    finally:
        made.end()
        made.envoy.shutdown()
        made.triton.shutdown()


def test_it_sleeps_and_the_next_call_wakes_it(platform: Platform) -> None:
    platform.publish(2.0, idle=2)
    platform.publish(3.0, idle=None, name="other")
    key, others = platform.key(), platform.key("other")
    assert platform.call(key).status_code == 200
    loaded = platform.instances()
    wait(platform.is_asleep)
    # Its memory is free, and its files are where they were.
    wait(lambda: platform.instances() == loaded - 1)
    assert platform.endpoint("other").sleep is None
    assert platform.call(others, "other").status_code == 200
    assert platform.is_asleep()
    # Many at once, and all of them are answered by the model.
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: platform.call(key, rows=1 + n % 3), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        values: Any = answer.json()["outputs"][0]["data"]
        np.testing.assert_allclose(values, 2 * X.ravel()[: len(values)], rtol=1e-6)
    assert platform.endpoint().sleep is None
    assert platform.instances() == loaded
    # And once more, with a new version that finds it asleep.
    wait(platform.is_asleep)
    platform.publish(5.0, idle=2)
    answer = platform.call(key)
    assert (answer.status_code, answer.headers["x-aiaas-model-version"]) == (200, "2")


def test_whoever_begins_anew_it_sleeps_on_and_wakes(platform: Platform) -> None:
    platform.publish(2.0, idle=2)
    key = platform.key()
    wait(platform.is_asleep)
    # Triton and Envoy are killed, and the reconciler starts them.
    for name in ("triton", "envoy"):
        process = platform.supervisor.process(name)
        assert process is not None
        os.kill(process.pid, 9)
        wait(lambda name=name, old=process.pid: _is_new(platform, name, old))  # type: ignore[misc]
    wait_ready(platform.triton)
    wait_ready(platform.envoy)
    time.sleep(3)
    assert platform.is_asleep()
    assert platform.instances() == 0
    # The service is away: its callers hear it, and nobody is given a wrong answer.
    platform.end()
    assert platform.call(key).status_code == 503
    again = platform_on(platform.home)
    again.begin()
    try:
        time.sleep(3)
        assert again.is_asleep()
        assert again.instances() == 0
        answer = again.call(key)
        assert (answer.status_code, answer.headers["x-aiaas-model-version"]) == (200, "1")
    finally:
        again.end()


def test_nobody_is_refused_while_it_falls_asleep_again_and_again(platform: Platform) -> None:
    platform.publish(2.0, idle=1)
    key = platform.key()
    statuses: list[int] = []
    over = threading.Event()

    def caller(pause: float) -> None:
        while not over.wait(pause):
            statuses.append(platform.call(key).status_code)

    threads = [threading.Thread(target=caller, args=(pause,)) for pause in (4.1, 4.3)]
    for thread in threads:
        thread.start()
    fell, slept, ends = 0, False, time.monotonic() + 30
    while time.monotonic() < ends:
        sleeps = platform.is_asleep()
        fell, slept = fell + (sleeps and not slept), sleeps
        time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert len(statuses) >= 8
    assert fell >= 3


def _is_new(platform: Platform, name: str, old: int) -> bool:
    process = platform.supervisor.process(name)
    return process is not None and process.pid != old
