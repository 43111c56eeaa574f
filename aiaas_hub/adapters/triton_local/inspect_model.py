"""Loads one ONNX file in onnxruntime and prints its tensors, and the bytes that this process takes
with it, as JSON; run in a process of its own.

A model is somebody's input: what it does to the process that loads it, from a crash to taking
all memory, must not happen in the control plane. It runs in the serving environment, so that
what loads is the very onnxruntime that will serve. It imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import resource
import sys


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
    # An instance of the model is such a process as well.
    with open("/proc/self/statm") as file:
        answer["memory"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    print(json.dumps(answer))  # noqa: T201 - the answer


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main(*sys.argv[1:])
