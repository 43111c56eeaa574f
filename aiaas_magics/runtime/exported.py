"""The exported model in onnxruntime: does it load, what does it take, does it answer the same?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics.errors import invalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

TOLERANCE = 1e-3
"""Largest difference allowed, relative to the largest absolute output value."""
MAX_EVALUATION_ROWS = 256
_BATCHES = (1, 3)
FLOOR = 1e-6
_ORT_TYPES = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "string",
}


@dataclass(frozen=True)
class ExportedModel:
    onnx_path: Path
    evaluation_path: Path
    """safetensors: `input.<name>` and the source model's `output.<name>`, row by row."""
    signature: Signature
    export_max_abs: float
    """Largest absolute difference seen between the source model and onnxruntime."""
    framework: str


def prove(
    onnx_path: Path,
    rows: Arrays,
    answer: Callable[[Arrays], Arrays],
    labels: Sequence[str] | None,
    framework: str,
) -> ExportedModel:
    """Compare the exported model with `answer`, the source model's, on `rows` (leading dimension:
    the rows) at batch 1, 3 and all of them, at most `MAX_EVALUATION_ROWS`.

    The evaluation rows are written beside `onnx_path`. Raises `InvalidInput` if the exported
    model does not load, has no free batch dimension, or an output differs by more than
    `TOLERANCE` of the output's scale.
    """
    evaluation = sized(rows, min(row_count(rows), MAX_EVALUATION_ROWS))
    outputs = answer(evaluation)
    session = load(onnx_path, list(outputs))
    signature = signature_of(session, labels)
    worst = 0.0
    for size in sorted({*_BATCHES, row_count(evaluation)}):
        batch = sized(evaluation, size)
        expected = outputs if size == row_count(evaluation) else answer(batch)
        worst = max(worst, compare(session, batch, expected, size))
    evaluation_path = onnx_path.with_name("evaluation.safetensors")
    _write_evaluation(evaluation_path, evaluation, outputs)
    return ExportedModel(onnx_path, evaluation_path, signature, worst, framework)


def named_arrays(rows: Any, names: list[str]) -> Arrays:
    """What a user gave as the inputs of these names: one array, a tuple in their order, or a dict.

    Raises `InvalidInput` if they are others or do not have the same number of rows, at least one.
    """
    if isinstance(rows, Mapping):
        given = {str(name): as_array(value) for name, value in rows.items()}
    else:
        values = list(rows) if isinstance(rows, tuple | list) else [rows]
        given = {name: as_array(value) for name, value in zip(names, values, strict=False)}
        if len(values) != len(names):
            given = {}
    if set(given) != set(names):
        raise InvalidInput(
            f"The example does not fit the model's inputs: {', '.join(names)}.",
            remedy="Give a tuple in their order, or a dict by name.",
        )
    counts = {array.shape[0] if array.ndim else 0 for array in given.values()}
    if len(counts) != 1 or counts == {0}:
        raise InvalidInput(
            "The example's arrays do not have the same number of rows.",
            remedy="Every input has the batch dimension first.",
        )
    return {name: given[name] for name in names}


def as_array(value: Any) -> NDArray[np.generic]:
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    # onnxruntime takes strings as objects, of any length.
    return array.astype(np.object_) if array.dtype.kind == "U" else array


def row_count(arrays: Arrays) -> int:
    return int(next(iter(arrays.values())).shape[0])


def sized(arrays: Arrays, rows: int) -> Arrays:
    """The first `rows` rows, begun again from the top where there are fewer."""
    import numpy as np

    index = np.arange(rows) % row_count(arrays)
    return {name: array[index] for name, array in arrays.items()}


def load(path: Path, output_names: list[str]) -> Any:
    """A session on the CPU. Raises `InvalidInput` if there is none or its outputs are others."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            path, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise InvalidInput(
            f"The model was exported but does not load in onnxruntime: {first_line(error)}",
            remedy="Replace the operation that it names in the model's forward.",
        ) from error
    found = [output.name for output in session.get_outputs()]
    if found != output_names:
        raise InvalidInput(
            f"The exported model's outputs are {found}, not {output_names}.",
            remedy="Return each output tensor once, and none of the inputs unchanged.",
        )
    return session


def signature_of(session: Any, labels: Sequence[str] | None) -> Signature:
    def spec(tensor: Any) -> TensorSpec:
        dtype: Any = _ORT_TYPES.get(tensor.type)
        batch, *rest = tensor.shape or [1]
        if dtype is None or isinstance(batch, int):
            raise InvalidInput(
                f"{tensor.name!r} of the exported model is {tensor.type} with the shape "
                f"{tensor.shape}, without a free batch dimension.",
                remedy="Let every input and output have the batch dimension first.",
            )
        shape = [size if isinstance(size, int) else None for size in rest]
        try:
            return TensorSpec(name=tensor.name, dtype=dtype, shape=shape)
        except ValidationError as error:
            raise invalid(error) from error

    outputs = [spec(tensor) for tensor in session.get_outputs()]
    names = None if labels is None else [str(label) for label in labels]
    if names is not None:
        classes = outputs[0].shape[-1] if outputs[0].shape else None
        if classes != len(names):
            raise InvalidInput(
                f"There are {len(names)} labels, but the first output has "
                f"{classes if classes is not None else 'no fixed number of'} classes.",
                remedy="Give one class name per value of the first output's last axis.",
            )
    inputs = [spec(tensor) for tensor in session.get_inputs()]
    try:
        return Signature(inputs=inputs, outputs=outputs, labels=names)
    except ValidationError as error:
        raise invalid(error) from error


def compare(session: Any, inputs: Arrays, expected: Arrays, size: int) -> float:
    import numpy as np

    try:
        answers = session.run(list(expected), inputs)
    except Exception as error:
        raise InvalidInput(
            f"The exported model fails on {size} rows: {first_line(error)}",
            remedy="Use operations in forward that work for any number of rows.",
        ) from error
    worst = 0.0
    for (name, reference), answer in zip(expected.items(), answers, strict=True):
        if answer.shape != reference.shape:
            raise InvalidInput(
                f"The exported model's {name!r} is {list(answer.shape)} for {size} rows, the "
                f"model's own is {list(reference.shape)}.",
                remedy="Use operations in forward that work for any number of rows.",
            )
        if reference.dtype == np.object_:
            if not np.array_equal(reference, answer):
                raise InvalidInput(
                    f"The exported model answers differently: {name!r} is another text "
                    f"({size} rows).",
                    remedy="Look for random or data-dependent operations in forward.",
                )
            continue
        wide = reference.astype(np.float64)
        with np.errstate(invalid="ignore"):
            difference = np.abs(wide - answer.astype(np.float64))
        # Equal infinities and NaNs in the same places are equal answers.
        same = (wide == answer) | (np.isnan(wide) & np.isnan(answer.astype(np.float64)))
        difference = np.where(same, 0.0, difference)
        largest = float(difference.max(initial=0.0))
        finite = np.abs(wide[np.isfinite(wide)])
        scale = float(finite.max(initial=0.0))
        if not largest <= TOLERANCE * scale + FLOOR:
            raise InvalidInput(
                f"The exported model answers differently: {name!r} is off by {largest:.2g} where "
                f"values reach {scale:.2g} ({size} rows).",
                remedy="Look for random or data-dependent operations in forward.",
            )
        worst = max(worst, largest)
    return worst


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _write_evaluation(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from aiaas_hub.schemas import strings

    arrays = {f"input.{name}": array for name, array in inputs.items()}
    arrays.update({f"output.{name}": array for name, array in outputs.items()})
    numbers: dict[str, Any] = {
        name: strings.pack(array) if array.dtype == np.object_ else array
        for name, array in arrays.items()
    }
    # safetensors writes the memory as it lies, whatever the strides say.
    save_file({name: np.ascontiguousarray(array) for name, array in numbers.items()}, path)
