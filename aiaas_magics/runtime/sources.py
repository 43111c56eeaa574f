"""Models of any library, as ONNX: torch, Keras, TensorFlow, scikit-learn, XGBoost, ONNX.

`export` takes any of them, and torch modules; what is exported is always compared with what the
source model answers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime import boosted, torchscript
from aiaas_magics.runtime.exported import (
    ExportedModel,
    as_array,
    first_line,
    load,
    named_arrays,
    prove,
    row_count,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    Arrays = dict[str, NDArray[np.generic]]

_PIPELINE = "transformers.Pipeline"
_OTHERS = {
    "jax": "Convert it with jax2onnx, and give the ModelProto with an example input.",
    "xgboost": "Give an XGBClassifier or XGBRegressor; a Booster fits into one with load_model().",
    "lightgbm": "Convert it with onnxmltools, and give the ModelProto with an example input.",
}
"""Library → what to do about a model of its."""


def export(
    model: Any,
    example_input: Any,
    eval_input: Any = None,
    labels: Sequence[str] | None = None,
    *,
    tokenizer: Any = None,
    max_length: int | None = None,
    processor: Any = None,
    directory: Path,
) -> ExportedModel:
    """`model` as `model.onnx` in `directory`, with a free batch dimension and proven to answer
    the same.

    With a `tokenizer`, or a transformers pipeline, which has one: inputs are texts; see
    `text_models`, and of models that generate `causal_models`. With a `processor`, or a pipeline
    for images: see `image_models`.

    A torch module (a TorchScript one too, or its file's path), a Keras 3 model (on torch or
    TensorFlow), a `tf.Module` or `tf.function`, a fitted scikit-learn estimator (XGBoost's are
    such, in a pipeline too), a `ModelProto`, or the path of an ONNX file. Inputs are an array or
    tensor with a leading batch dimension, a tuple of them in the order of the model's inputs, or a
    dict by name; for an estimator a matrix of shape (rows, features) or a DataFrame; where a
    ColumnTransformer comes first, each column becomes an input of shape (rows, 1). Numbers for
    estimators are float32.

    Raises `InvalidInput` if it is none of these, does not convert, or answers differently.
    """
    if torchscript.is_file(model):
        model = torchscript.opened(model)
    if processor is not None or has_image_processor(model):
        if tokenizer is not None:
            raise InvalidInput(
                "A model with a processor and a tokenizer takes images and texts at once.",
                remedy="Give one of them: an endpoint takes either.",
            )
        from aiaas_magics.runtime.image_models import export_image

        return export_image(
            model, example_input, eval_input, labels, processor=processor, directory=directory
        )
    if (tokenizer is not None or has_tokenizer(model)) and is_causal(model):
        if labels is not None:
            raise InvalidInput(
                "A model that generates text has no labels.", remedy="Leave labels out."
            )
        from aiaas_magics.runtime.causal_models import export_causal

        return export_causal(
            model,
            example_input,
            eval_input,
            tokenizer=tokenizer,
            max_length=max_length,
            directory=directory,
        )
    if tokenizer is not None and torchscript.is_scripted(model):
        raise InvalidInput(
            "A TorchScript module takes no tokenizer here.",
            remedy="Give the module that it was scripted from with the tokenizer, or leave the "
            "tokenizer out: the endpoint then takes tokens.",
        )
    if tokenizer is not None or has_tokenizer(model):
        from aiaas_magics.runtime.text_models import export_text

        return export_text(
            model,
            example_input,
            eval_input,
            labels,
            tokenizer=tokenizer,
            max_length=max_length,
            directory=directory,
        )
    if max_length is not None:
        raise InvalidInput(
            "max_length is after how many tokens a text is cut, and this model takes no text.",
            remedy="Give its tokenizer too: tokenizer=….",
        )
    # A fitted model is of a library that is imported already: looking is free.
    library = _library(model)
    if library is None and not isinstance(model, str | os.PathLike):
        raise _unknown(model)
    if example_input is None:
        raise InvalidInput(
            "save_model() has no example input, by which the model's inputs are known.",
            remedy="Give a few rows: ctx.save_model(model, x[:2]).",
        )
    if library == "tensorflow" or (library == "keras" and _backend() == "tensorflow"):
        from aiaas_magics.runtime.tensorflow_models import export_tensorflow

        return export_tensorflow(model, example_input, eval_input, labels, directory=directory)
    if library == "keras":
        from aiaas_magics.runtime.export import export_torch

        module = _keras_module(model)
        return export_torch(module, example_input, eval_input, labels, directory=directory)
    if library == "torch":
        from aiaas_magics.runtime.export import export_torch

        return export_torch(model, example_input, eval_input, labels, directory=directory)
    rows = example_input if eval_input is None else eval_input
    if library == "sklearn":
        return _export_estimator(model, rows, labels, directory)
    return _export_onnx(model, rows, labels, directory)


def has_tokenizer(model: Any) -> bool:
    """Whether it is a model of texts with all that it needs: a pipeline of transformers, or one
    of sentence-transformers."""
    return bool(_bases(model) & {_PIPELINE, "sentence_transformers.SentenceTransformer"})


def is_causal(model: Any) -> bool:
    """Whether it is a transformers model that goes on with texts, or a pipeline with one."""
    if getattr(model, "task", None) == "text-generation":
        return True
    generates = getattr(model, "can_generate", None)
    is_encoder_decoder = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return callable(generates) and bool(generates()) and not is_encoder_decoder


def has_image_processor(model: Any) -> bool:
    """Whether it is a pipeline of transformers for images alone."""
    return (
        _PIPELINE in _bases(model)
        and getattr(model, "image_processor", None) is not None
        and getattr(model, "tokenizer", None) is None
    )


def _bases(model: Any) -> set[str]:
    """Library and name of its classes."""
    return {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(model).__mro__}


def _library(model: Any) -> str | None:
    """Which of the libraries below the object is of, by its class and their bases."""
    found = {base.__module__.partition(".")[0] for base in type(model).__mro__}
    # A Keras model is a torch module or a TensorFlow one as well.
    known = ("keras", "torch", "sklearn", "onnx", "tensorflow")
    return next((name for name in known if name in found), None)


def _unknown(model: Any) -> InvalidInput:
    kind = type(model)
    modules = {base.__module__.partition(".")[0] for base in kind.__mro__}
    remedy = next((_OTHERS[name] for name in _OTHERS if name in modules), "")
    return InvalidInput(
        f"A {kind.__module__.partition('.')[0]} {kind.__name__} cannot be exported here.",
        remedy=remedy
        or "Give a torch module, a Keras or TensorFlow model, a scikit-learn estimator or an ONNX "
        "model.",
    )


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


def _keras_module(model: Any) -> nn.Module:
    """The Keras model in inference, as a torch module whose forward names its inputs."""
    from aiaas_magics.runtime.named_inputs import input_names, with_named_inputs

    if _backend() != "torch":
        raise InvalidInput(
            f"The Keras model is on the backend {_backend()!r}, which does not export here.",
            remedy="Set os.environ['KERAS_BACKEND'] = 'torch' before keras is imported; a saved "
            "model loads there with keras.saving.load_model().",
        )
    inputs = getattr(model, "inputs", None) or []
    names = input_names([tensor.name for tensor in inputs] or ["input"])

    def call(module: Any, values: list[Any]) -> Any:
        return module(values if len(values) > 1 else values[0], training=False)

    return with_named_inputs(model, names, call)


def _export_estimator(
    model: Any, rows: Any, labels: Sequence[str] | None, directory: Path
) -> ExportedModel:
    import numpy as np
    import sklearn

    skl2onnx = _skl2onnx()
    inputs = _estimator_inputs(rows, by_column=_takes_columns(model))
    columns = list(rows.columns) if _is_frame(rows) else None
    method = next(
        (
            name
            for name in ("predict_proba", "predict", "transform")
            if callable(getattr(model, name, None))
        ),
        None,
    )
    if method is None:
        raise InvalidInput(
            f"{type(model).__name__} neither predicts nor transforms.",
            remedy="Give the fitted estimator or pipeline.",
        )
    target = directory / "model.onnx"
    is_boosted = boosted.has_boosted(model)
    if is_boosted:
        boosted.register()
    try:
        options = {"zipmap": False} if method == "predict_proba" else None
        proto = skl2onnx.convert_sklearn(
            model,
            initial_types=[
                (name, skl2onnx.common.data_types.FloatTensorType([None, array.shape[1]]))
                for name, array in inputs.items()
            ],
            options={id(model): options} if options else None,
            target_opset={"ai.onnx.ml": boosted.ML_OPSET} if is_boosted else None,
        )
    except Exception as error:  # any converter's own
        raise InvalidInput(
            f"{type(model).__name__} cannot be converted to ONNX: {first_line(error)}",
            remedy="Give a fitted estimator that skl2onnx supports, or an ONNX model.",
        ) from error
    name = _keep_one_output(proto, "probabilities" if method == "predict_proba" else None)
    target.write_bytes(proto.SerializeToString())
    if method == "predict_proba" and labels is None:
        labels = [str(label) for label in model.classes_]

    def answer(batch: Arrays) -> Arrays:
        given: Any = np.concatenate(list(batch.values()), axis=1)
        if columns is not None:
            import pandas as pd

            given = pd.DataFrame(given, columns=columns)
        result = np.asarray(getattr(model, method)(given))
        if result.dtype.kind == "f":
            result = result.astype(np.float32)
        # Estimators give one value per row as a vector, ONNX as a column.
        return {name: result.reshape(-1, 1) if _is_column(proto, result) else result}

    return prove(target, inputs, answer, labels, f"scikit-learn {sklearn.__version__}")


def _skl2onnx() -> Any:
    try:
        import skl2onnx
    except ImportError:
        raise InvalidInput(
            "Scikit-learn estimators need skl2onnx to be exported, which is not installed here.",
            remedy="Install it: pip install skl2onnx.",
        ) from None
    return skl2onnx


def _takes_columns(model: Any) -> bool:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    first = model.steps[0][1] if isinstance(model, Pipeline) else model
    return isinstance(first, ColumnTransformer)


def _is_frame(rows: Any) -> bool:
    return type(rows).__name__ == "DataFrame"


def _estimator_inputs(rows: Any, by_column: bool) -> Arrays:
    import numpy as np

    try:
        matrix = np.ascontiguousarray(as_array(rows), dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidInput(
            "The example has values that are no numbers, which cannot be served.",
            remedy="Encode them before the estimator, and give the encoded rows.",
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] == 0:
        raise InvalidInput(
            f"The example has the shape {list(matrix.shape)}; an estimator takes rows of features.",
            remedy="Give a matrix with at least one row, for example x[:10].",
        )
    if by_column and _is_frame(rows):
        return {str(column): matrix[:, [index]] for index, column in enumerate(rows.columns)}
    return {"input": matrix}


def _keep_one_output(proto: Any, wanted: str | None) -> str:
    """Leave one output of the graph, and say its name: a classifier's label may be a text."""
    outputs = list(proto.graph.output)
    kept = next((output for output in outputs if output.name == wanted), outputs[0])
    del proto.graph.output[:]
    proto.graph.output.append(kept)
    return str(kept.name)


def _is_column(proto: Any, result: Any) -> bool:
    shape = proto.graph.output[0].type.tensor_type.shape.dim
    return result.ndim == 1 and len(shape) == 2


def _export_onnx(
    model: Any, rows: Any, labels: Sequence[str] | None, directory: Path
) -> ExportedModel:
    """The model with a free batch dimension, compared with itself on single rows.

    A first dimension that says 1, as exporters of other libraries leave it, is freed.
    """
    import numpy as np
    import onnx

    try:
        proto = model if isinstance(model, onnx.ModelProto) else onnx.load(os.fspath(model))
        copied = onnx.ModelProto()
        copied.CopyFrom(proto)
        onnx.checker.check_model(copied)
    except Exception as error:  # the parser's and the checker's own
        raise InvalidInput(
            f"The ONNX model is not valid: {first_line(error)}",
            remedy="Give a ModelProto, or the path of a file that onnx.load reads; one with "
            "TorchScript ends with .pt.",
        ) from error
    single = directory / "given.onnx"
    single.write_bytes(proto.SerializeToString())
    known = {initializer.name for initializer in copied.graph.initializer}
    names = [value.name for value in copied.graph.input if value.name not in known]
    outputs = [value.name for value in copied.graph.output]
    reference = load(single, outputs)
    arrays = named_arrays(rows, names)
    for value in [*copied.graph.input, *copied.graph.output]:
        if value.name not in known and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # What was inferred with the old size would contradict the new one.
    del copied.graph.value_info[:]
    target = directory / "model.onnx"
    target.write_bytes(copied.SerializeToString())

    def answer(batch: Arrays) -> Arrays:
        answers = []
        for row in range(row_count(batch)):
            one = {name: array[row : row + 1] for name, array in batch.items()}
            try:
                answers.append(reference.run(outputs, one))
            except Exception as error:  # onnxruntime's own
                raise InvalidInput(
                    f"The ONNX model does not run on the example input: {first_line(error)}",
                    remedy=f"Its inputs are: {', '.join(names)}; give rows of their types.",
                ) from error
        return {
            name: np.concatenate(parts)
            for name, parts in zip(outputs, zip(*answers, strict=True), strict=True)
        }

    producer = f"{proto.producer_name} {proto.producer_version}".strip() or "onnx"
    return prove(target, arrays, answer, labels, producer[:100])
