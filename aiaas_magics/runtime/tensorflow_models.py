"""TensorFlow models as ONNX: Keras models on TensorFlow, a `tf.Module`, a `tf.function`.

The conversion is tf2onnx's, which reads the graph that TensorFlow traces of the model's call.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.exported import (
    ExportedModel,
    first_line,
    named_arrays,
    prove,
    row_count,
    sized,
)
from aiaas_magics.runtime.named_inputs import input_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

_OPSET = 18
"""What the exporter of torch modules writes, and every server since 2023 reads."""
_REMEDY = "Use TensorFlow operations that tf2onnx knows in the model's call."


def export_tensorflow(
    model: Any,
    example_input: Any,
    eval_input: Any = None,
    labels: Sequence[str] | None = None,
    *,
    directory: Path,
) -> ExportedModel:
    """Export `model`'s call in inference with a free batch dimension into `directory`.

    A Keras model's inputs have their own names, those of a `tf.Module` or `tf.function` the names
    of the call's parameters. Other dimensions than the first are fixed, except where
    `eval_input` has another size there than `example_input`. Numbers take the type that the
    model declares for them.

    Raises `InvalidInput` if tf2onnx is absent, the model does not convert, or answers differently
    afterwards.
    """
    import tensorflow as tf

    tf2onnx = _tf2onnx()
    call, names, dtypes = _call_of(model, example_input)
    example = _typed(named_arrays(example_input, names), dtypes)
    rows = example
    if eval_input is not None:
        rows = _typed(named_arrays(eval_input, names), dtypes)
    specs = [
        tf.TensorSpec(_free_shape(name, array, rows[name]), array.dtype, name=name)
        for name, array in example.items()
    ]
    outputs: list[str] = []

    @tf.function(input_signature=specs)  # type: ignore[untyped-decorator]  # it ships no types
    def served(*values: Any) -> dict[str, Any]:
        result = call(dict(zip(names, values, strict=True)))
        outputs[:] = _output_names(result, names)
        flat = tf.nest.flatten(result)
        # The result's own order, which an ordered name keeps: a dict's would be by alphabet.
        return {f"{index:03}": tf.identity(tensor) for index, tensor in enumerate(flat)}

    def answer(batch: Arrays) -> Arrays:
        answers = served(*(tf.constant(array) for array in batch.values()))
        return {
            name: answers[key].numpy() for name, key in zip(outputs, sorted(answers), strict=True)
        }

    _check_rows(answer, example)
    target = directory / "model.onnx"
    converted = _convert(tf2onnx, served, specs)
    _rename(converted, outputs)
    target.write_bytes(converted.SerializeToString())
    return prove(target, rows, answer, labels, f"tensorflow {tf.__version__}")


def _tf2onnx() -> Any:
    try:
        import tf2onnx
    except ImportError:
        raise InvalidInput(
            "TensorFlow models need tf2onnx to be exported, which is not installed here.",
            remedy="Install it: pip install 'aiaas-hub[tensorflow]'.",
        ) from None
    return tf2onnx


def _call_of(
    model: Any, example: Any
) -> tuple[Callable[[dict[str, Any]], Any], list[str], dict[str, Any]]:
    """How to call the model by names of inputs, these names, and the types it declares."""
    if hasattr(model, "predict_on_batch"):
        import keras

        inputs = getattr(model, "inputs", None) or []
        names = input_names([tensor.name for tensor in inputs] or ["input"])
        # A model of one's own class says nothing of its inputs, and converts floats itself.
        dtypes = {name: tensor.dtype for name, tensor in zip(names, inputs, strict=False)}

        def call(values: dict[str, Any]) -> Any:
            given = list(values.values())
            return model(given if len(given) > 1 else given[0], training=False)

        return call, names, dtypes or {"": keras.config.floatx()}
    signature = _declared(model)
    if not callable(model) or signature is None:
        raise InvalidInput(
            f"A {type(model).__name__} cannot be called with tensors, so it cannot be exported.",
            remedy="Give a Keras model, a tf.Module with __call__, or a tf.function such as "
            "loaded.signatures['serving_default'].",
        )
    names = list(signature) or _numbered(example)
    if signature:
        return lambda values: model(**values), names, {k: v for k, v in signature.items() if v}
    return lambda values: model(*values.values()), names, {}


def _declared(model: Any) -> dict[str, Any] | None:
    """Parameters of the model's call with their types where it fixes them; none if it takes any
    number, None where it is no call."""
    concrete = getattr(model, "structured_input_signature", None)
    if concrete is not None and concrete[1]:  # as of a saved model
        keywords: dict[str, Any] = concrete[1]
        return {name: spec.dtype.as_numpy_dtype for name, spec in keywords.items()}
    function = model if hasattr(model, "python_function") else getattr(model, "__call__", None)  # noqa: B004 - its tf.function is wanted
    if function is None:
        return None
    python = getattr(function, "python_function", function)
    fixed = getattr(function, "input_signature", None) or ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [
        name
        for name, parameter in inspect.signature(python).parameters.items()
        if parameter.kind in kinds
        and parameter.default is inspect.Parameter.empty
        and name != "self"
    ]
    types = [spec.dtype.as_numpy_dtype for spec in fixed]
    return dict(zip(names, types + [None] * (len(names) - len(types)), strict=True))


def _numbered(example: Any) -> list[str]:
    if isinstance(example, Mapping):
        return [str(name) for name in example]
    count = len(example) if isinstance(example, tuple | list) else 1
    return ["input" if index == 0 else f"input_{index}" for index in range(count)]


def _typed(arrays: Arrays, dtypes: Mapping[str, Any]) -> Arrays:
    """The arrays in the types that the model declares; `""` is the one of any floats."""
    import numpy as np

    typed = {}
    for name, array in arrays.items():
        dtype = dtypes.get(name, dtypes.get("") if array.dtype.kind == "f" else None)
        typed[name] = np.ascontiguousarray(array, dtype=dtype)
    return typed


def _free_shape(name: str, example: Any, other: Any) -> list[int | None]:
    if example.ndim != other.ndim:
        raise InvalidInput(
            f"eval_input {name!r} has {other.ndim} dimensions, example_input has {example.ndim}.",
            remedy="Give both in the same form.",
        )
    sizes = zip(example.shape[1:], other.shape[1:], strict=True)
    return [None, *(here if here == there else None for here, there in sizes)]


def _output_names(result: Any, inputs: Sequence[str]) -> list[str]:
    import tensorflow as tf

    count = len(tf.nest.flatten(result))
    if isinstance(result, Mapping) and len(result) == count:
        # TensorFlow, too, goes through a mapping by its sorted keys.
        names = input_names([str(key) for key in sorted(result)])
    else:
        names = ["output" if index == 0 else f"output_{index}" for index in range(count)]
    # An output named like an input exports and then does not load.
    return [f"{name}_out" if name in inputs else name for name in names]


def _check_rows(answer: Callable[[Arrays], Arrays], example: Arrays) -> None:
    batch = sized(example, 2)
    try:
        answers = answer(batch)
    except Exception as error:  # TensorFlow's own
        raise InvalidInput(
            f"The model does not run on the example input: {_reason(error)}",
            remedy="Give an example_input that the model takes.",
        ) from error
    for name, array in answers.items():
        if array.ndim == 0 or array.shape[0] != row_count(batch):
            raise InvalidInput(
                f"The output {name!r} has the shape {list(array.shape)} for 2 rows of input.",
                remedy="Return one row of output per row of input.",
            )


def _convert(tf2onnx: Any, function: Any, specs: Sequence[Any]) -> Any:
    import onnx

    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        converted, _ = tf2onnx.convert.from_function(function, specs, opset=_OPSET)
    except Exception as error:  # the converter's own
        raise InvalidInput(
            f"The model cannot be converted to ONNX: {first_line(error)}",
            remedy=_REMEDY,
        ) from error
    finally:
        logger.setLevel(level)
    # What it does not know it leaves as it is.
    nodes = [node for node in converted.graph.node if node.domain in ("", "ai.onnx")]
    left = sorted({node.op_type for node in nodes if not onnx.defs.has(node.op_type)})
    if left:
        raise InvalidInput(
            f"The model cannot be converted to ONNX: it has no {', '.join(left)}.",
            remedy=_REMEDY,
        )
    return converted


def _reason(error: BaseException) -> str:
    """TensorFlow's reason stands below its user's code where it traced that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith("in user code:"):
        return lines[-1][:300]
    return first_line(error)


def _rename(converted: Any, names: Sequence[str]) -> None:
    """Give the outputs these names, in their order, and the batch dimension its own."""
    import onnx

    graph = converted.graph
    given = sorted(graph.output, key=lambda output: output.name)
    for name, output in zip(names, given, strict=True):
        graph.node.append(onnx.helper.make_node("Identity", [output.name], [name]))
        output.name = name
    ordered = [copy.deepcopy(output) for output in given]
    del graph.output[:]
    graph.output.extend(ordered)
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
