"""What counting the inputs costs a request: two versions of one model, of which one is counted.

    python tests/benchmarks/input_counts.py [ROUNDS] [PAUSE]

One client, Triton directly, by gRPC. The versions take turns, request by request, so that both meet
the same machine; figures are the medians of the rounds' medians, in microseconds. Of what
comes fast a hundred runs in a second are counted: with a PAUSE of six milliseconds before each
request all are, and the figure is what one costs.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import onnx_models
import tritonclient.grpc
from gateway_world import wait_ready
from onnx import TensorProto

from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.domain import input_drift
from aiaas_hub.home import Home
from aiaas_hub.schemas.models import Signature, TensorSpec

REQUESTS = 300
SHAPES = ((1, 4), (1, 13), (1, 128), (32, 13), (256, 13), (256, 128))


def main(rounds: int = 9, pause: int = 0) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        home = Home(Path(root))
        home.prepare()
        triton = TritonLocal(home, Supervisor(home.processes, home.logs))
        try:
            triton.start()
            wait_ready(triton)
            return {f"{r} x {c}": measured(triton, home, r, c, rounds, pause) for r, c in SHAPES}
        finally:
            triton.shutdown()


def measured(
    triton: TritonLocal, home: Home, rows: int, columns: int, rounds: int, pause: int
) -> dict[str, float]:
    tensors = [TensorSpec(name=name, dtype="float32", shape=[columns]) for name in "xy"]
    signature = Signature(inputs=tensors[:1], outputs=tensors[1:])
    held_out = np.random.default_rng(0).normal(size=(1000, columns)).astype(np.float32)
    reference = input_drift.reference({"x": held_out}, signature)
    onnx = onnx_models.identity(home.root / "m.onnx", TensorProto.FLOAT, [columns])
    model = f"wide-{rows}-{columns}"
    for version, counted in ((1, None), (2, reference)):
        triton.install(triton.stage(model, version, signature, onnx, reference=counted))
    triton.set_versions(model, signature, [1, 2])
    client = tritonclient.grpc.InferenceServerClient(f"unix:{triton.http_socket.parent}/grpc:1")
    tensor = tritonclient.grpc.InferInput("x", [rows, columns], "FP32")
    tensor.set_data_from_numpy(held_out[:rows])
    taken: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        times: dict[int, list[float]] = {1: [], 2: []}
        for place in range(2 * REQUESTS):
            version = 1 + place % 2
            time.sleep(pause / 1000)
            began = time.perf_counter()
            client.infer(model, [tensor], model_version=str(version))
            times[version].append(1e6 * (time.perf_counter() - began))
        for version, found in times.items():
            taken[version].append(statistics.median(found))
    client.close()
    triton.set_versions(model, signature, [])
    return {
        "not counted": round(statistics.median(taken[1]), 1),
        "counted": round(statistics.median(taken[2]), 1),
        "more": round(
            statistics.median(
                counted - plain for plain, counted in zip(taken[1], taken[2], strict=True)
            ),
            1,
        ),
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:])), indent=1))
