"""Loads one ONNX file in onnxruntime and prints its tensors, and the bytes that this process takes
with it, as JSON; run in a process of its own.

A model is somebody's input: what it does to the process that loads it, from a crash to taking
all memory, must not happen in the control plane. It runs in the serving environment, so that
what loads is the very onnxruntime that will serve. It imports nothing of ours but what the
backend does.

A model that is given texts, images or prompts is seen as its callers see it: with these as its
input. Of one that generates the memory has what the texts that are on their way may take.
"""

from __future__ import annotations

import importlib.util
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
    answer: dict[str, Any] = {
        kind: {tensor.name: [tensor.type, tensor.shape] for tensor in tensors}
        for kind, tensors in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    try:
        answer |= _through_step(session, answer)
    except Exception as error:
        print(json.dumps({"error": " ".join(str(error).split())[:2000]}))  # noqa: T201 - the answer
        return
    # An instance of the model is such a process as well.
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    answer["memory"] = pages * os.sysconf("SC_PAGE_SIZE") + answer.pop("more_memory", 0)
    print(json.dumps(answer))  # noqa: T201 - the answer


def _through_step(session: Any, seen: Mapping[str, Any]) -> dict[str, object]:
    """Nothing for a model that declares no step. One text or image is tried."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.join(here, "onnxruntime_backend"))
    from steps import STEP, step_of

    metadata = session.get_modelmeta().custom_metadata_map
    declared = json.loads(metadata.get(STEP, "{}"))
    for part, shared in (("pixels", "pixels"), ("generation", "chat_template")):
        if part in declared:
            _load(shared, os.path.join(here, "..", "..", "schemas", f"{shared}.py"))
    step = step_of(metadata, session)
    if step is None:
        return {}
    if step.kind == "prompt":
        return _through_generation(step, seen)
    names = [tensor.name for tensor in session.get_outputs()]
    answers = session.run(names, step.before(step.read(step.sample())))
    step.label.after(dict(zip(names, answers, strict=True)))
    string = ["tensor(string)", ["batch", 1]]
    label = {step.label.output: string} if step.label.output else {}
    return {
        "inputs": {step.input: string},
        "outputs": {**seen["outputs"], **label},
        "labels": step.label.names,
        "kind": step.kind,
    }


def _through_generation(step: Any, seen: Mapping[str, Any]) -> dict[str, object]:
    from generating import MAX_ACTIVE
    from generation_step import COMPLETION

    step.try_out()
    string = ["tensor(string)", ["batch", 1]]
    return {
        "inputs": {step.input: string},
        "outputs": {"logits": seen["outputs"]["logits"], COMPLETION: string},
        "kind": step.kind,
        "more_memory": MAX_ACTIVE * step.cache_bytes,
    }


def _load(name: str, path: str) -> None:
    """Make one file importable, where the rest of its directory is not to be."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101 - for the type checker
    assert spec.loader is not None  # noqa: S101 - likewise
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main(*sys.argv[1:])
