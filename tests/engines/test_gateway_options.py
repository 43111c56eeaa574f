"""What a version is published with, met by its callers: Envoy and Triton together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import psutil
import pytest
from gateway_world import AUDIENCE, BODY, INFER, OWNER, Answer, World, error_of, wait_ready

from aiaas_hub.adapters.precision import OnnxConverter
from aiaas_hub.adapters.tensors import read_tensors
from aiaas_hub.domain import parity, precision
from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.schemas.endpoints import Precision, ServingOptions

pytestmark = pytest.mark.engines

SLOW = "slow-1"
SIGNATURE = onnx_models.SLOW_SIGNATURE
ROWS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def slow(world: World) -> Iterator[World]:
    """Also with a model that takes its time, which the test loads with options of its own."""
    wait_ready(world.triton)
    onnx = onnx_models.slow(world.home.root / "slow.onnx", 400_000)
    world.triton.install(world.triton.stage(SLOW, 1, SIGNATURE, onnx))
    yield world
    world.triton.set_versions(SLOW, SIGNATURE, [])
    world.triton.remove(SLOW)


def lead_to_slow(world: World, seconds: float | None) -> None:
    target = RouteTarget(SLOW, 1, 100, timeout_seconds=seconds)
    world.envoy.apply([Route(OWNER, "scale", [target], AUDIENCE)])


def test_a_time_out_ends_a_request_and_what_waits_is_not_inferred(slow: World) -> None:
    triton = slow.triton
    triton.set_versions(SLOW, SIGNATURE, [1])
    lead_to_slow(slow, None)
    assert slow.call("POST", INFER, BODY).status == 200
    begin = time.monotonic()
    assert slow.call("POST", INFER, BODY).json["outputs"][0]["data"] == [1, 2, 3]
    taken = time.monotonic() - begin

    # A quarter of what it takes, whatever this machine is busy with.
    options = ServingOptions(instances=1, max_batch=1, timeout_seconds=taken / 4)
    triton.set_versions(SLOW, SIGNATURE, [1], options)
    lead_to_slow(slow, options.timeout_seconds)

    def call(_: int) -> tuple[Answer, float]:
        begin = time.monotonic()
        return slow.call("POST", INFER, BODY), time.monotonic() - begin

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(call, range(4)))
    for answer, seconds in answers:
        assert (answer.status, error_of(answer)) == (504, "unavailable"), answer
        assert answer.json["error"].startswith("The model took longer than its endpoint allows.")
        assert taken / 4 <= seconds + 0.01
        assert seconds < taken

    # One was being inferred, and is to its end, or on a busy machine waited too; those that waited
    # are not, though nothing hinders it now.
    time.sleep(2 * taken)
    lead_to_slow(slow, None)
    assert slow.call("POST", INFER, BODY).status == 200
    assert triton.counts(SLOW)[1].runs <= 2


def test_warm_up_has_every_instance_infer(slow: World) -> None:
    triton = slow.triton
    options = ServingOptions(instances=2, max_batch=2, warm_up=True)
    triton.set_versions(SLOW, SIGNATURE, [1], options)
    process = slow.supervisor.process("triton")
    assert process is not None
    triton_process = psutil.Process(process.pid)

    def running() -> list[psutil.Process]:
        children = triton_process.children(recursive=True)
        return [child for child in children if f"{SLOW}_0_" in " ".join(child.cmdline())]

    # Those of another test's are still ending, perhaps.
    deadline = time.monotonic() + 20
    while len(instances := running()) != 2:
        assert time.monotonic() < deadline, instances
        time.sleep(0.05)

    def worked() -> list[float]:
        return [child.cpu_times().user for child in instances]

    before = worked()
    parity.warm_up(lambda rows: triton.infer(SLOW, 1, rows), ROWS, 2, 2)
    for former, now in zip(before, worked(), strict=True):
        assert now - former > 0.1


@pytest.mark.parametrize("wanted", ["fp16", "int8"])
def test_a_model_in_fewer_bits_is_served_and_answers_alike(
    world: World, tmp_path: Path, wanted: Precision
) -> None:
    model, rows = onnx_models.network(tmp_path)
    signature = onnx_models.NETWORK_SIGNATURE
    options = ServingOptions(precision=wanted)
    name = f"network-{wanted}"
    with OnnxConverter().converted(model, wanted, rows, 256) as made:
        staged = world.triton.stage(name, 1, signature, made.path, options)
    world.triton.install(staged)
    try:
        world.triton.set_versions(name, signature, [1], options)
        inputs, expected = parity.split_evaluation(read_tensors(rows), signature)

        def infer(batch: Mapping[str, Any]) -> Mapping[str, Any]:
            return world.triton.infer(name, 1, batch)

        measured, scale = parity.measure(infer, inputs, expected)
        assert 1e-6 < measured.max_abs <= precision.tolerance(options) * scale
        found = precision.conversion(wanted, made.before, made.after, infer, inputs, expected)
        assert found.disagreement <= found.max_disagreement
    finally:
        world.triton.set_versions(name, signature, [])
        world.triton.remove(name)
