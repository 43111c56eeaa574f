"""The service without its web, on real engines, and one user's endpoints on it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
import numpy as np
import onnx_models
import psutil
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
from aiaas_hub.schemas.endpoints import (
    Endpoint,
    EndpointVersion,
    KeyCreate,
    PublishRequest,
    ServingOptions,
    Sleep,
)
from aiaas_hub.schemas.models import ModelVersionCreate

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
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        self.waker.start()
        self.reconciler.start()

    def end(self) -> None:
        self.reconciler.stop()
        self.waker.stop()
        self.database.close()

    def endpoint(self, name: str = "scale") -> Endpoint:
        return self.services.endpoints.get(OWNER, name)

    def publish(
        self,
        factor: float,
        idle: float | None = None,
        name: str = "scale",
        *,
        verified_as: float | None = None,
    ) -> EndpointVersion:
        """A model that multiplies by `factor`, once it is settled. `verified_as`: the factor that
        its held-out rows have, where it is another one."""
        wanted = factor if verified_as is None else verified_as
        onnx = onnx_models.scale(self.home.root / f"{name}-{factor}.onnx", factor)
        return self.publish_file(onnx.read_bytes(), wanted, idle, name)

    def publish_file(
        self, onnx: bytes, factor: float, idle: float | None = None, name: str = "scale"
    ) -> EndpointVersion:
        """A file that is said to multiply by `factor`, once it is settled."""
        rows = {"input.x": X, "output.y": factor * X, "output.total": (factor * X).sum(axis=1)}
        digests = []
        for content in (onnx, save(rows)):
            blobs: BlobStore = self.services.blobs
            with io.BytesIO(content) as file:
                digest, _ = blobs.put(file, limit=1 << 30)
            self.services.grants.grant(OWNER, digest)
            digests.append(digest)
        hand_over = ModelVersionCreate(
            onnx=digests[0],
            evaluation=digests[1],
            signature=onnx_models.SCALE_SIGNATURE,
            export_max_abs=0,
        )
        with self._guard:
            self.services.models.add_version(OWNER, name, hand_over, uploader=OWNER)
            request = PublishRequest(model=name, options=ServingOptions(idle_seconds=idle))
            version = (
                self.services.endpoints.publish(
                    OWNER, name, request, by=OWNER, may_read=lambda _: True, idempotency_key=None
                )
                .versions[0]
                .version
            )
        self.reconciler.wake()
        wait(lambda: not self.version(version, name).is_underway)
        return self.version(version, name)

    def version(self, number: int, name: str = "scale") -> EndpointVersion:
        return next(v for v in self.endpoint(name).versions if v.version == number)

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


def platform_on(home: Home, pace: Pace | None = None) -> Platform:
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
    reconciler._pace = pace or Pace(engines=0.3, converge=1.0, restart=0.5)
    services: Services = app.state.services
    waker = Waker(home, services.sleeping.wake)
    return Platform(home, supervisor, triton, envoy, services, reconciler, database, waker)


@contextmanager
def platform_running(home: Home, pace: Pace | None = None) -> Iterator[Platform]:
    home.prepare()
    made = platform_on(home, pace)
    made.begin()
    try:
        wait_ready(made.triton)
        wait_ready(made.envoy)
        yield made
    finally:
        made.end()
        made.envoy.shutdown()
        made.triton.shutdown()
