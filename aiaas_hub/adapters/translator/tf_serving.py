"""Requests and answers of TensorFlow Serving's REST API, as tensors and back.

Protocol: https://www.tensorflow.org/tfx/serving/api_rest ("predict" and its "JSON mapping").
`instances` has a value, or a dict of values by input, for each row, and is answered by
`predictions` of the same form; `inputs` has a value, or a dict of them, for the whole batch, and is
answered by `outputs`. Bytes are `{"b64": "…"}`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import triton_to_np_dtype

from aiaas_hub.schemas.errors import InvalidInput

SIGNATURE = "serving_default"
_BYTES = "BYTES"
_TF_TYPES = {
    "BOOL": "DT_BOOL",
    "UINT8": "DT_UINT8",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    _BYTES: "DT_STRING",
}

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorInfo:
    """As Triton's metadata has it: `shape` with the batch first, -1 for any size."""

    name: str
    datatype: str
    shape: Sequence[int]


@dataclass(frozen=True)
class Question:
    inputs: dict[str, NDArray[Any]]
    by_row: bool
    """Whether it came as `instances`."""


def read(body: bytes, wanted: Sequence[TensorInfo]) -> Question:
    """Raises `InvalidInput` for what is not a request that fits the model."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body is not JSON.", remedy="") from error
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise InvalidInput("Give either 'instances' or 'inputs'.", remedy="")
    if request.get("signature_name") not in (None, "", SIGNATURE):
        raise InvalidInput(f"The only signature is {SIGNATURE!r}.", remedy="")
    by_row = "instances" in request
    values = _rows(request["instances"], wanted) if by_row else _columns(request["inputs"], wanted)
    try:
        inputs = {tensor.name: _array(tensor, values[tensor.name]) for tensor in wanted}
    except RecursionError as error:
        raise InvalidInput("The values are nested too deeply.", remedy="") from error
    if len({len(array) for array in inputs.values()}) > 1:
        raise InvalidInput("The inputs have different numbers of rows.", remedy="")
    return Question(inputs, by_row)


def answer(question: Question, outputs: Tensors) -> bytes:
    """The body of the answer."""
    values = {name: _listed(name, array) for name, array in outputs.items()}
    if not question.by_row:
        whole = next(iter(values.values())) if len(values) == 1 else values
        return json.dumps({"outputs": whole}).encode()
    if len(values) == 1:
        rows = next(iter(values.values()))
    else:
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return json.dumps({"predictions": rows}).encode()


def status(version: int, *, available: bool) -> dict[str, Any]:
    """What `GET …/models/NAME` says."""
    state = "AVAILABLE" if available else "END"
    fine = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": str(version), "state": state, "status": fine}]}


def metadata(
    name: str, version: int, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> dict[str, Any]:
    """What `GET …/models/NAME/metadata` says."""
    signature = {
        "inputs": {tensor.name: _described(tensor) for tensor in inputs},
        "outputs": {tensor.name: _described(tensor) for tensor in outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _described(tensor: TensorInfo) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in tensor.shape]
    return {
        "dtype": _TF_TYPES.get(tensor.datatype, "DT_INVALID"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": tensor.name,
    }


def _rows(instances: Any, wanted: Sequence[TensorInfo]) -> Mapping[str, Any]:
    if not isinstance(instances, list) or not instances:
        raise InvalidInput("'instances' is a list with at least one row.", remedy="")
    names = [tensor.name for tensor in wanted]
    if all(isinstance(row, dict) and not _is_bytes(row) for row in instances):
        for row in instances:
            _same_names(row, names)
        return {name: [row[name] for row in instances] for name in names}
    return _only(instances, names)


def _columns(inputs: Any, wanted: Sequence[TensorInfo]) -> Mapping[str, Any]:
    names = [tensor.name for tensor in wanted]
    if isinstance(inputs, dict) and not _is_bytes(inputs):
        _same_names(inputs, names)
        return inputs
    return _only(inputs, names)


def _same_names(given: Mapping[str, Any], names: Sequence[str]) -> None:
    if sorted(given) != sorted(names):
        raise InvalidInput(
            f"The model's inputs are {', '.join(names)}; given are {', '.join(sorted(given))}.",
            remedy="",
        )


def _only(value: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if len(names) != 1:
        raise InvalidInput(f"Name the inputs, which are {', '.join(names)}.", remedy="")
    return {names[0]: value}


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"]


def _array(tensor: TensorInfo, value: Any) -> NDArray[Any]:
    """Cast as TensorFlow does: whole numbers may become fractions, and nothing else another kind
    of thing."""
    dtype = np.dtype(triton_to_np_dtype(tensor.datatype))
    try:
        found = np.array(_decoded(value), dtype=object) if tensor.datatype == _BYTES else None
        array = np.array(value) if found is None else found
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"The rows of {tensor.name} differ in shape.", remedy="") from error
    if tensor.datatype == _BYTES:
        fits = all(isinstance(item, bytes) for item in array.ravel())
    elif dtype.kind == "b":
        fits = array.dtype.kind == "b"
    else:
        fits = array.dtype.kind in ("iuf" if dtype.kind == "f" else "iu")
        if fits and dtype.kind in "iu" and array.size:
            limits = np.iinfo(dtype)
            fits = bool(array.min() >= limits.min and array.max() <= limits.max)
    if not fits:
        raise InvalidInput(
            f"The values of {tensor.name} are not all of type {tensor.datatype}.", remedy=""
        )
    shape = list(tensor.shape)
    if array.ndim == 1 and shape[1:] == [1]:
        # One number for each row: Triton has no rows without dimensions.
        array = array.reshape(-1, 1)
    if array.ndim != len(shape) or any(
        size not in (-1, got) for size, got in zip(shape[1:], array.shape[1:], strict=False)
    ):
        raise InvalidInput(
            f"{tensor.name} has shape {list(array.shape)}, the model takes {shape}.", remedy=""
        )
    # Else a fraction beyond what half precision holds would be a warning.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(dtype, copy=False))


def _decoded(value: Any) -> Any:
    """Texts and `{"b64": …}` as bytes, however deep."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, str):
        return value.encode()
    if _is_bytes(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise InvalidInput("A 'b64' is not base64.", remedy="") from error
    return value


def _listed(name: str, array: NDArray[Any]) -> list[Any]:
    if array.dtype.kind != "O":
        return list(array.tolist())
    # Bytes stay bytes where the model says so by the output's name.
    as_text = not name.endswith("_bytes")
    flat = np.empty(array.size, dtype=object)
    for place, item in enumerate(array.ravel()):
        try:
            flat[place] = item.decode() if as_text else _encoded(item)
        except UnicodeDecodeError:
            flat[place] = _encoded(item)
    return list(flat.reshape(array.shape).tolist())


def _encoded(item: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(item).decode()}
