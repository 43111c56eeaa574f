"""What callers send through Envoy is counted in Triton, and the service compares it."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx_models
import psutil
import pytest
from gateway_world import INFER, MODEL, SIGNATURE, World, route, wait_ready

from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.domain import input_drift
from aiaas_hub.domain.drifting import Drifting
from aiaas_hub.domain.ports import RouteTarget
from aiaas_hub.domain.records import Deployment
from aiaas_hub.schemas.drift import VersionDrift
from aiaas_hub.schemas.endpoints import Endpoint, EndpointState, EndpointVersion, ServingOptions
from aiaas_hub.schemas.models import PinnedModel

pytestmark = pytest.mark.engines

NUMBERS = itertools.count(11)
"""Of versions: none comes again, as none does where they are published."""
TWO = ServingOptions(instances=2)
HELD_OUT = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
REFERENCE = input_drift.reference({"x": HELD_OUT}, SIGNATURE)


class Records:
    """The endpoint, whose versions are served as they are named."""

    def __init__(self, *versions: int) -> None:
        now = datetime.now(UTC)
        model = PinnedModel(owner="ann", name="scale", version=1)
        self._deployments = [
            Deployment(
                "ann",
                "scale",
                EndpointVersion(
                    version=version,
                    model=model,
                    state=EndpointState.SERVING,
                    created_at=now,
                    created_by="ann",
                ),
                MODEL,
            )
            for version in versions
        ]
        self._endpoint = Endpoint(
            owner="ann",
            name="scale",
            state=EndpointState.SERVING,
            traffic={versions[0]: 100},
            versions=[one.info for one in self._deployments],
            url="",
            created_at=now,
            updated_at=now,
        )

    def get(self, owner: str, name: str) -> Endpoint:
        return self._endpoint

    def deployments(self, owner: str, name: str) -> list[Deployment]:
        return self._deployments

    def routed(self) -> list[tuple[Endpoint, list[Deployment]]]:
        return [(self._endpoint, self._deployments)]


@dataclass
class Served:
    world: World
    first: int
    second: int

    @property
    def triton(self) -> TritonLocal:
        return self.world.triton

    def drifting(self, *versions: int) -> Drifting:
        """The service's, begun now; of both versions unless others are named."""
        records: Any = Records(*(versions or (self.first, self.second)))
        return Drifting(records, self.triton)

    def rows(self, version: int) -> int:
        """As they are counted now."""
        found = self.triton.input_counts().get((MODEL, version))
        return 0 if found is None else int(found[0].sum())

    def serve(self, *versions: int) -> None:
        self.triton.set_versions(MODEL, SIGNATURE, versions, TWO)

    def send(self, values: Any, times: int = 1, threads: int = 1) -> None:
        body = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "shape": list(values.shape),
                        "datatype": "FP32",
                        "data": values.ravel().tolist(),
                    }
                ]
            }
        )
        key = self.world.key()
        with ThreadPoolExecutor(threads) as pool:
            calls = [
                pool.submit(self.world.call, "POST", INFER, body, key=key) for _ in range(times)
            ]
            assert {call.result().status for call in calls} == {200}


@pytest.fixture
def served(gateway_started: World) -> Iterator[Served]:
    """Two versions whose inputs are counted, each by two instances; the first has all requests."""
    world = gateway_started
    found = Served(world, next(NUMBERS), next(NUMBERS))
    for version in (found.first, found.second):
        onnx = onnx_models.scale(world.home.root / "m.onnx", float(version))
        found.triton.install(found.triton.stage(MODEL, version, SIGNATURE, onnx, TWO, REFERENCE))
    found.serve(found.first, found.second)
    world.envoy.apply([route((found.first, 100), (found.second, 0))])
    yield found
    world.triton.set_versions(MODEL, SIGNATURE, [1, 2, 3])


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def asked(drifting: Drifting, version: int) -> VersionDrift:
    return next(one for one in drifting.of("ann", "scale").versions if one.version == version)


def test_what_callers_send_is_compared(served: Served) -> None:
    first = served.first
    drifting = served.drifting()
    assert asked(drifting, first).rows == 0
    assert served.triton.input_reference(MODEL, first) == REFERENCE
    # What the service asks for itself is no caller's.
    served.triton.infer(MODEL, first, {"x": HELD_OUT})
    served.send(HELD_OUT[:50])
    wait(lambda: served.rows(first) >= 50)
    early = asked(drifting, first)
    assert (early.rows, early.features) == (50, [])
    assert early.reason.startswith("50 of the 200 rows were seen")
    # Requests that share runs, at both instances; each row is counted once.
    served.send(HELD_OUT[:5], times=80, threads=8)
    wait(lambda: served.rows(first) >= 450)
    time.sleep(2.5)
    assert served.rows(first) == 450
    # The same few rows over and over are not what it was made from.
    assert {feature.change for feature in asked(drifting, first).features} == {"much"}
    moved = HELD_OUT.copy()
    moved[:, 1] += 5
    served.send(moved, times=30)
    wait(lambda: served.rows(first) == 6450)
    now = asked(drifting, first)
    assert now.rows == 6450
    assert now.features[0].name == "x[1]"
    assert now.features[0].change == "much"
    assert now.features[0].seen[-1] > 0.8
    # A version that nobody calls, and one of before anything was counted.
    assert asked(drifting, served.second).rows == 0
    assert "published before" in asked(served.drifting(1), 1).reason
    # Bins and sums are all that is kept: nothing that was sent.
    (kept, *_) = (served.world.home.triton / "inputs" / MODEL / str(first)).iterdir()
    assert np.array(json.loads(kept.read_text())).shape == (3, 11)


def test_of_many_runs_some_are_counted(served: Served) -> None:
    """However fast the machine is. Two instances, and one caller: each run has one row."""
    began = time.monotonic()
    served.send(HELD_OUT[:1], times=1500)
    most = 2 * 100 * (time.monotonic() - began + 1)
    time.sleep(5)
    assert 100 <= served.rows(served.first) <= min(1500, most)


def test_a_shadow_s_copies_are_counted_as_its_own(served: Served) -> None:
    shadow = RouteTarget(MODEL, served.second, 100)
    shares = route((served.first, 100), (served.second, 0))
    served.world.envoy.apply([replace(shares, shadow=shadow)])
    served.send(HELD_OUT[:10], times=5)
    wait(lambda: served.rows(served.second) == 50)


def test_what_was_seen_outlives_instances_versions_and_triton(served: Served) -> None:
    first, second = served.first, served.second
    drifting = served.drifting()
    assert asked(drifting, first).rows == 0
    served.send(HELD_OUT, times=2)
    wait(lambda: served.rows(first) == 400)
    # Its instances die, and are started anew.
    process = served.world.supervisor.process("triton")
    assert process is not None
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    served.triton.heal(MODEL)
    served.send(HELD_OUT[:100])
    wait(lambda: asked(drifting, first).rows == 500)
    # It is unloaded, which is the end of what no file has yet, and loaded again.
    served.send(HELD_OUT[:10])
    served.serve(second)
    wait(lambda: served.rows(first) == 510)
    served.serve(first, second)
    served.send(HELD_OUT[:20])
    wait(lambda: asked(drifting, first).rows == 530)
    # All of Triton dies.
    os.kill(process.pid, 9)
    while served.world.supervisor.alive("triton"):
        time.sleep(0.01)
    assert asked(drifting, first).rows == 530
    served.triton.start()
    wait_ready(served.triton)
    assert served.triton.input_counts() == {}
    assert asked(drifting, first).rows == 530
    served.serve(first, second)
    served.send(HELD_OUT[:7])
    wait(lambda: served.rows(first) == 7)
    assert asked(drifting, first).rows == 537
    # A service that begins anew knows what Triton does.
    assert asked(served.drifting(), first).rows == 7
    # With a version go its counts.
    served.serve(second)
    served.triton.remove(MODEL, first)
    assert (MODEL, first) not in served.triton.input_counts()
