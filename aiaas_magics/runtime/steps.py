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
STEP = "aiaas.step"
STRING = {"dtype": "string", "shape": [1]}


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
    attach(exported.onnx_path, {STEP: declared, **(metadata or {})})
    keep(exported.evaluation_path, kind, given, _outputs(exported.evaluation_path))
    try:
        more = [TensorSpec.model_validate({"name": LABEL, "kind": "label", **STRING})]
        signature = Signature(
            inputs=[TensorSpec.model_validate({"name": kind, "kind": kind, **STRING})],
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


def attach(onnx_path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    proto = onnx.load(onnx_path)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx_path.write_bytes(proto.SerializeToString())


def keep(
    evaluation_path: Path,
    name: str,
    given: Sequence[str | bytes],
    numbers: Mapping[str, NDArray[np.generic]],
    texts: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the held-out rows: what is given as the input `name`, and the source's outputs."""
    from safetensors.numpy import save_file

    packed = {f"output.{key}": strings.pack(_column(one)) for key, one in (texts or {}).items()}
    arrays = {f"output.{key}": array for key, array in numbers.items()}
    save_file({**arrays, **packed, f"input.{name}": strings.pack(_column(given))}, evaluation_path)


def _outputs(evaluation_path: Path) -> dict[str, NDArray[np.generic]]:
    from safetensors.numpy import load_file

    return {
        key.removeprefix("output."): array
        for key, array in load_file(evaluation_path).items()
        if key.startswith("output.")
    }


def _column(values: Sequence[str | bytes]) -> NDArray[np.object_]:
    import numpy as np

    column: NDArray[np.object_] = np.empty((len(values), 1), np.object_)
    column[:, 0] = values
    return column
