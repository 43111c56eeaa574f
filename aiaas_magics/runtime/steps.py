"""An exported model with the steps before and after it, declared in its one ONNX file.

The keys are those of the serving engine's steps: nothing that came with a model runs where it is
served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aiaas_hub.schemas import strings
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Kind, Signature, TensorSpec
from aiaas_magics.errors import invalid
from aiaas_magics.runtime.exported import ExportedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LABEL = "label"
_STEP = "aiaas.step"
_STRING = {"dtype": "string", "shape": [1]}


def with_step(
    exported: ExportedModel,
    kind: Kind,
    given: Sequence[str | bytes],
    step: Mapping[str, Any],
    labels: Sequence[str] | None,
    metadata: Mapping[str, str] | None = None,
) -> ExportedModel:
    """The same model with one input `kind`, a string a row: the held-out rows are `given`, and not
    what `step` makes of them. Where there are `labels`, each row's is an output as well.

    Raises `InvalidInput` where an output's size is free, or has the label's name.
    """
    outputs = exported.signature.outputs
    for output in outputs:
        if None in output.shape:
            raise InvalidInput(
                f"{output.name!r} has a value for each token of a text."
                if kind == "text"
                else f"{output.name!r} has no fixed size.",
                remedy="Return one row per text, as the mean over its tokens."
                if kind == "text"
                else "Return one row of a fixed size per image.",
            )
        if output.name == LABEL:
            raise InvalidInput(
                f"The model has an output {LABEL!r}, as the name of the class is called.",
                remedy="Call it otherwise in the dict that forward returns.",
            )
    named = labels is not None and len(outputs[0].shape) == 1
    label = {"output": LABEL, "names": list(map(str, labels or ()))} if named else None
    declared = json.dumps({"input": kind, **step, "label": label})
    _attach(exported.onnx_path, {_STEP: declared, **(metadata or {})})
    _keep(exported.evaluation_path, kind, given)
    try:
        more = [TensorSpec.model_validate({"name": LABEL, "kind": "label", **_STRING})]
        signature = Signature(
            inputs=[TensorSpec.model_validate({"name": kind, "kind": kind, **_STRING})],
            outputs=[*outputs, *(more if named else [])],
            labels=exported.signature.labels,
        )
    except ValidationError as error:
        raise invalid(error) from error
    return replace(exported, signature=signature)


def own_labels(model: Any, task: str) -> list[str] | None:
    """The names of its classes that a model of transformers for this task has, where somebody gave
    it some."""
    names = getattr(getattr(model, "config", None), "id2label", None) or {}
    found = [str(names[place]) for place in sorted(names)]
    classifies = type(model).__name__.endswith(f"For{task}")
    unnamed = all(name == f"LABEL_{place}" for place, name in enumerate(found))
    return found if classifies and found and not unnamed else None


def _attach(onnx_path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    proto = onnx.load(onnx_path)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx_path.write_bytes(proto.SerializeToString())


def _keep(evaluation_path: Path, name: str, given: Sequence[str | bytes]) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    arrays = {
        key: array for key, array in load_file(evaluation_path).items() if key.startswith("output.")
    }
    column: NDArray[np.object_] = np.empty((len(given), 1), np.object_)
    column[:, 0] = given
    arrays[f"input.{name}"] = strings.pack(column)
    save_file(arrays, evaluation_path)
