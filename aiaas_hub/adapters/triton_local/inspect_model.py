"""Loads one ONNX file in onnxruntime and prints its tensors, and the bytes that this process takes
with it, as JSON; run in a process of its own.

A model is somebody's input: what it does to the process that loads it, from a crash to taking
all memory, must not happen in the control plane. It runs in the serving environment, so that
what loads is the very onnxruntime that will serve. It imports nothing of ours but what the
backend does.

A model that is given texts is seen as its callers see it: with the text as its input.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from typing import Any


def main(path: str, cpu_seconds: str, memory_bytes: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds)))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).replace(path, "model.onnx").split())
        print(json.dumps({"error": text[:2000]}))  # noqa: T201 - the answer
        return
    answer: dict[str, object] = {
        kind: {tensor.name: [tensor.type, tensor.shape] for tensor in tensors}
        for kind, tensors in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    try:
        answer |= _through_text(session, answer)
    except Exception as error:
        print(json.dumps({"error": " ".join(str(error).split())[:2000]}))  # noqa: T201 - the answer
        return
    # An instance of the model is such a process as well.
    with open("/proc/self/statm") as file:
        answer["memory"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    print(json.dumps(answer))  # noqa: T201 - the answer


def _through_text(session: Any, seen: Mapping[str, Any]) -> dict[str, object]:
    """Nothing for a model that is not given texts. One text is tried."""
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "onnxruntime_backend"))
    import numpy as np
    from text_step import STEP, TextStep

    metadata = session.get_modelmeta().custom_metadata_map
    if STEP not in metadata:
        return {}
    step = TextStep(metadata, session)
    tokens = step.before(np.array([["A text."]], np.object_))
    names = [tensor.name for tensor in session.get_outputs()]
    step.after(dict(zip(names, session.run(names, tokens), strict=True)))
    string = ["tensor(string)", ["batch", 1]]
    label = {step.label: string} if step.label else {}
    return {
        "inputs": {step.input: string},
        "outputs": {**seen["outputs"], **label},
        "labels": step.names,
    }


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main(*sys.argv[1:])
