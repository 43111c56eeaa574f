"""Writes one ONNX file in another precision, and prints the size and speed of both as JSON; run in
a process of its own, for the reasons that `triton_local/inspect_model.py` gives. It imports nothing
of ours.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

_CALLS = 25
_ROWS, _TOKENS = 8, 32


def main(
    source: str, target: str, precision: str, rows: str, batch: str, seconds: str, memory: str
) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    logging.disable(logging.WARNING)
    try:
        (_to_fp16 if precision == "fp16" else _to_int8)(source, target)
        answer: dict[str, object] = {
            name: _figures(path, rows, int(batch))
            for name, path in (("before", source), ("after", target))
        }
    except Exception as error:
        text = " ".join(str(error).replace(source, "model.onnx").replace(target, "").split())
        answer = {"error": text[:600]}
    print(json.dumps(answer))  # noqa: T201 - the answer


def _to_fp16(source: str, target: str) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # Callers send and get what they did before.
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _to_int8(source: str, target: str) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    quantize_dynamic(
        source,
        target,
        # A processor's convolutions are slower in integers than in floats.
        op_types_to_quantize=sorted(set(IntegerOpsRegistry) - {"Conv"}),
        weight_type=QuantType.QInt8,
    )


def _figures(path: str, rows: str, batch: int) -> dict[str, float]:
    import numpy as np
    import onnxruntime
    from safetensors.numpy import load_file

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    held_out = load_file(rows)
    has_step = "aiaas.step" in session.get_modelmeta().custom_metadata_map
    inputs: dict[str, Any] = {
        i.name: _made_up(i) if has_step else held_out[f"input.{i.name}"]
        for i in session.get_inputs()
    }
    count = len(next(iter(inputs.values())))
    one = {name: array[:1] for name, array in inputs.items()}
    many = {name: array[np.arange(batch) % count] for name, array in inputs.items()}

    def times(given: dict[str, Any], calls: int) -> list[float]:
        found = []
        for _ in range(calls):
            began = time.perf_counter()
            session.run(None, given)
            found.append(time.perf_counter() - began)
        return found

    times(one, 3)
    return {
        "size_bytes": Path(path).stat().st_size,
        "p50_ms": float(np.median(times(one, _CALLS))) * 1000,
        "rows_per_second": batch / max(min(times(many, 4)), 1e-9),
    }


def _made_up(tensor: Any) -> Any:
    """What a model of texts or images might be given, whose held-out rows are the texts and files
    themselves: they are read where it serves. Which tokens or numbers they are makes no difference
    to the time."""
    import numpy as np

    if tensor.type in ("tensor(float)", "tensor(uint8)"):
        return np.zeros(
            (_ROWS, *tensor.shape[1:]), np.uint8 if "uint8" in tensor.type else np.float32
        )
    kind = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}[tensor.type]
    # The second token of a vocabulary, and no padding in a mask.
    value = 0 if tensor.name == "token_type_ids" else 1
    return np.full((_ROWS, _TOKENS), value, kind)


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main(*sys.argv[1:])
