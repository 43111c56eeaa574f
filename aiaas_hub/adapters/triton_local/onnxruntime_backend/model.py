"""A Triton backend named `onnxruntime`, for a Triton that has only the python backend.

A model directory with `backend: "onnxruntime"` and `<version>/model.onnx` is served by this file
here and, unchanged, by the compiled backend of NVIDIA's container; the parameters it reads have
that backend's names (github.com/triton-inference-server/onnxruntime_backend). It runs inside
Triton's stub process, in the serving environment: it imports nothing of ours.

Under the name `aiaas` the same files serve models that are given texts (`text_step.py`), images
(`image_step.py`) or prompts (`generating.py`); NVIDIA's container needs them as such a backend, and
the packages that they import. One process does all of it: texts of several requests are padded
together and share one run, which an ensemble's steps could not give each other, as their tensors
have other lengths.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections import defaultdict
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

# Triton has the backend's directory on the path.
from input_counts import input_counts
from reasons import reason
from steps import step_of
from text_step import decoded

_LAST = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_TAKEN = ctypes.c_char_p(b"used_dltensor")
_set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]
_set_capsule_name.restype = ctypes.c_int

_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class TritonPythonModel:
    """One instance of one version of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.onnx"
        path = os.path.join(args["model_repository"], args["model_version"], filename)
        try:
            self._session = ort.InferenceSession(
                path, _options(config), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # The reason reaches the publisher; where the file lies does not concern them.
            raise pb_utils.TritonModelException(reason(error, path)) from None
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._step: Any = None
        if config.get("backend") == "aiaas":
            metadata = self._session.get_modelmeta().custom_metadata_map
            try:
                self._step = step_of(metadata, self._session)
            except Exception as error:
                raise pb_utils.TritonModelException(reason(error, path)) from None
        strings = _strings if self._step is None else self._through_step
        self._inputs = {
            tensor["name"]: strings if tensor["data_type"] == "TYPE_STRING" else _array
            for tensor in config["input"]
        }
        self._batched = config.get("max_batch_size", 0) > 0
        self._counts = input_counts(os.path.dirname(path), args)
        self._generation: Any = None
        if self._step is not None and self._step.kind == "prompt":
            from generating import Generation

            self._generation = Generation(self._step, _Bridge)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer all requests; those whose tensors fit together share one run of the model.

        Of a model that generates, answers come later: see `generating`.
        """
        if self._generation is not None:
            for request in requests:
                self._generation.accept(request)
            return None
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for index, request in enumerate(requests):
            try:
                feed = {
                    name: read(pb_utils.get_input_tensor_by_name(request, name))
                    for name, read in self._inputs.items()
                }
            except ValueError as error:
                responses[index] = _failed(error, pb_utils.TritonError.INVALID_ARG)
                continue
            except Exception as error:
                responses[index] = _failed(error)
                continue
            # Without a batch dimension no two requests may share a run.
            key: Any = index
            if self._batched:
                key = tuple(array.shape[1:] for array in feed.values())
            groups[key].append((index, feed))
        for group in groups.values():
            self._run(group, requests, responses)
        return responses

    def _run(
        self, group: list[tuple[int, dict[str, Any]]], requests: list[Any], responses: list[Any]
    ) -> None:
        try:
            if len(group) == 1:
                feed = group[0][1]
            else:
                feed = {
                    name: np.concatenate([feed[name] for _, feed in group]) for name in self._inputs
                }
            results = self._answer(feed)
            if self._counts is not None:
                self._counts.add(feed, [requests[index] for index, _ in group])
            start = 0
            for index, part in group:
                rows = next(iter(part.values())).shape[0] if self._batched else 0
                wanted = requests[index].requested_output_names()
                tensors = []
                for name in self._outputs:
                    if wanted and name not in wanted:
                        continue
                    array = results[name]
                    if len(group) > 1:
                        array = array[start : start + rows]
                    tensors.append(_tensor(name, array))
                start += rows
                responses[index] = pb_utils.InferenceResponse(output_tensors=tensors)
        except Exception as error:
            for index, _ in group:
                responses[index] = _failed(error)

    def _answer(self, feed: dict[str, Any]) -> dict[str, Any]:
        step = self._step
        if step is None:
            return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        own = [name for name in self._outputs if name != step.label.output]
        answers = self._session.run(own, step.before(feed[step.input]))
        answered: dict[str, Any] = step.label.after(dict(zip(own, answers, strict=True)))
        return answered

    def _through_step(self, tensor: Any) -> Any:
        """What the step makes of one request's tensor. Here, and not of all requests that share a
        run: one that is refused then takes no other down."""
        return self._step.read(tensor.as_numpy())

    def finalize(self) -> None:
        if self._counts is not None:
            self._counts.finalize()
        if self._generation is not None:
            self._generation.close()
        del self._session


class _Sender:
    """The way back to one caller of a model that generates."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        self._has_ended = False
        # A request may be refused while a part of it is on its way already.
        self._lock = threading.RLock()

    def is_wanted(self) -> bool:
        """Whether the caller still waits. One that does not is not told anything more."""
        with self._lock:
            if not self._has_ended and self._sender.is_cancelled():
                self._has_ended = True
                self._sender.send(flags=_LAST)
            return not self._has_ended

    def send(self, outputs: dict[str, Any], *, last: bool) -> None:
        tensors = [_tensor(name, array) for name, array in outputs.items()]
        self._send(pb_utils.InferenceResponse(output_tensors=tensors), last=last)

    def fail(self, error: Exception) -> None:
        code = "INVALID_ARG" if isinstance(error, ValueError) else getattr(error, "code", None)
        codes = [] if code is None else [getattr(pb_utils.TritonError, code)]
        self._send(_failed(error, *codes), last=True)

    def _send(self, response: Any, *, last: bool) -> None:
        with self._lock:
            if not self._has_ended:
                self._has_ended = last
                # With the last answer, not after it: Triton may have let go of the request then.
                self._sender.send(response, flags=_LAST if last else 0)


class _Bridge:
    """What `generating` takes of the python backend."""

    sender = _Sender

    @staticmethod
    def strings(request: Any, name: str) -> list[str] | None:
        """An input of strings, row by row; None where there is no such input."""
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        return None if tensor is None else list(_strings(tensor).flat)


def _options(config: dict[str, Any]) -> Any:
    """Session options; by default the instances of a model share half of the processors among
    them, and the other half takes requests and sends answers."""
    parameters = {
        name: value.get("string_value", "")
        for name, value in (config.get("parameters") or {}).items()
    }
    instances = sum(group.get("count", 1) for group in config.get("instance_group") or [{}])
    share = max(1, len(os.sched_getaffinity(0)) // (2 * max(1, instances)))
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count") or 0) or share
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count") or 0) or 1
    if parameters.get("execution_mode") == "1":
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    level = ((config.get("optimization") or {}).get("graph") or {}).get("level", 0)
    options.graph_optimization_level = _LEVELS.get(level, _LEVELS[0])
    # A thread that waits for its next piece by spinning has a processor that others need: with it a
    # small model's runs cost four times as much, and a large one's took twice as long.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _array(tensor: Any) -> Any:
    """An input tensor as an array over the same memory, read-only.

    The stub was compiled for numpy 1. Under numpy 2 its `as_numpy()` makes arrays whose strides
    are 0, in which every element is the first, and `Tensor(name, array)` tensors of 0 bytes: so
    numbers go through DLPack both ways, which knows nothing of numpy's inner layout.
    """
    return np.from_dlpack(tensor)


def _strings(tensor: Any) -> Any:
    """An input of strings, as str. DLPack has none of them; see `inspection` about numpy 2.

    Raises `ValueError` for bytes that are no UTF-8: here, as a request that is refused later takes
    those down that share its run.
    """
    return decoded(tensor.as_numpy(), tensor.name())


def _tensor(name: str, array: Any) -> Any:
    """An output tensor of Triton's; see `_array` and `_strings`."""
    if array.dtype == np.object_:
        return pb_utils.Tensor(name, array)
    # Triton takes no strided memory, and DLPack gives away no read-only one.
    array = np.ascontiguousarray(array) if array.ndim else array
    if not array.flags.writeable:
        array = array.copy()
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # Triton marks a capsule as taken with a name that numpy does not know, and numpy then writes
    # a traceback to the log for each. This is the name that DLPack prescribes.
    _set_capsule_name(capsule, _TAKEN)
    return tensor


def _failed(error: Exception, *code: Any) -> Any:
    """With a code of `TritonError`, by default that of a fault of ours."""
    pb_utils.Logger.log_error(f"{type(error).__name__}: {error}")
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason(error), *code))
