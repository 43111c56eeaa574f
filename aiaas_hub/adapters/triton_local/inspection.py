"""Does this ONNX file load, and has it the tensors its signature says?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from aiaas_hub.adapters import model_process
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import DType, Signature, TensorSpec

_SCRIPT = Path(__file__).with_name("inspect_model.py")
_SECONDS = 120
_MEMORY_BYTES = 16 << 30

_ONNX_TYPES: dict[DType, str] = {
    "bool": "tensor(bool)",
    "uint8": "tensor(uint8)",
    "int8": "tensor(int8)",
    "int16": "tensor(int16)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "float16": "tensor(float16)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "string": "tensor(string)",
}


class Interpreter(Protocol):
    """A Python that has onnxruntime."""

    @property
    def python(self) -> Path: ...

    def variables(self) -> dict[str, str]:
        """The environment of a process that runs in it."""


Tensors = Mapping[str, tuple[str, Sequence[int | str | None]]]


def check(environment: Interpreter, onnx: Path, signature: Signature) -> int:
    """Raise `InvalidInput` unless the file loads in the serving onnxruntime and matches; the bytes
    that a process with it takes.

    The file must lie alone in its directory: weights kept in other files are then not found, and
    onnxruntime refuses paths that lead out of it.
    """
    strings = any(spec.dtype == "string" for spec in (*signature.inputs, *signature.outputs))
    if strings and sys.version_info >= (3, 13):
        raise InvalidInput(
            "Models of texts, prompts and images are not served by a platform on Python 3.13: "
            "Triton's python backend has no strings under its numpy.",
            remedy="Ask the operator to run the platform on Python 3.11 or 3.12.",
        )
    answer, memory, labels, kind = _inspect(environment, onnx)
    compare(signature.inputs, answer["inputs"], "input")
    compare(signature.outputs, answer["outputs"], "output")
    if labels and labels != signature.labels:
        raise InvalidInput(
            "The labels in the model are others than those of its signature.",
            remedy="Hand the model over again, so that both come from one export.",
        )
    if kind != signature.inputs[0].kind:
        raise InvalidInput(
            f"The model takes {kind or 'tensors'}, its signature says "
            f"{signature.inputs[0].kind or 'tensors'}.",
            remedy="Hand the model over again, so that both come from one export.",
        )
    return memory


def compare(specs: Sequence[TensorSpec], found: Tensors, kind: str) -> None:
    """Raise `InvalidInput` at the first tensor that differs from its description."""
    names = [spec.name for spec in specs]
    if sorted(names) != sorted(found):
        raise InvalidInput(
            f"The model's {kind}s are {_names(found)}, its signature says {_names(names)}.",
            remedy="Hand the model over again, so that both come from one export.",
        )
    for spec in specs:
        onnx_type, dims = found[spec.name]
        if onnx_type != _ONNX_TYPES[spec.dtype]:
            raise InvalidInput(
                f"The {kind} {spec.name!r} is a {onnx_type}, its signature says {spec.dtype}.",
                remedy="Hand the model over again, so that both come from one export.",
            )
        if len(dims) != len(spec.shape) + 1:
            raise InvalidInput(
                f"The {kind} {spec.name!r} has {len(dims)} dimensions, its signature says "
                f"{len(spec.shape) + 1} with the batch.",
                remedy="Every input and output needs a leading batch dimension.",
            )
        if isinstance(dims[0], int):
            raise InvalidInput(
                f"The batch dimension of the {kind} {spec.name!r} is fixed at {dims[0]}.",
                remedy="Export the model with a dynamic first dimension.",
            )
        for dim, wanted in zip(dims[1:], spec.shape, strict=True):
            # An output of which onnxruntime knows less than the signature is right all the same.
            if isinstance(dim, int) and dim != wanted and not (wanted is None and kind == "output"):
                raise InvalidInput(
                    f"The {kind} {spec.name!r} has the shape {_shape(dims)}, its signature says "
                    f"{_shape([None, *spec.shape])}.",
                    remedy="Hand the model over again, so that both come from one export.",
                )


def _inspect(
    environment: Interpreter, onnx: Path
) -> tuple[dict[str, Tensors], int, list[str], str | None]:
    """The tensors, the memory, and of a step its labels and what it takes."""
    argv: list[str | Path] = [
        environment.python,
        "-I",
        _SCRIPT,
        onnx,
        str(_SECONDS),
        str(_MEMORY_BYTES),
    ]
    answer = model_process.ask(argv, environment.variables(), onnx.parent, _SECONDS)
    if answer is None:
        raise InvalidInput(
            "The model makes onnxruntime crash, or takes too long or too much memory to load.",
            remedy="Load the file with onnxruntime in a notebook to see what happens.",
        )
    if "error" in answer:
        raise InvalidInput(
            f"The model does not load in onnxruntime: {answer['error']}",
            remedy="Load the file with onnxruntime in a notebook to see what is wrong with it.",
        )
    tensors: dict[str, Tensors] = {
        kind: {name: (what, dims) for name, (what, dims) in answer[kind].items()}
        for kind in ("inputs", "outputs")
    }
    return tensors, int(answer["memory"]), list(answer.get("labels", ())), answer.get("kind")


def _names(names: object) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"  # type: ignore[call-overload]


def _shape(dims: Sequence[int | str | None]) -> str:
    return "[" + ", ".join(str(dim) if isinstance(dim, int) else "?" for dim in dims) + "]"
