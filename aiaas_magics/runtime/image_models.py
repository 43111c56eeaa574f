"""Models of images with their processor, as one ONNX file that an endpoint serves images with.

What the processor does goes along in the file's metadata, as numbers: see `steps`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.image_files import contents
from aiaas_magics.runtime.exported import ExportedModel
from aiaas_magics.runtime.image_processing import declared, numbers
from aiaas_magics.runtime.steps import own_labels, with_step
from aiaas_magics.runtime.torchscript import is_scripted

_MAX_IMAGES = 32
"""For the comparison of outputs: each costs a decoding several times over."""
_MAX_HELD_OUT_BYTES = 64 << 20
"""Of all of them, as each takes the room of the largest: see `strings.pack`."""
_INPUT = "pixel_values"
"""As models of transformers call what their processor makes."""
_EMBEDDING = "image_embedding"


def export_image(
    model: Any,
    example_input: Any,
    eval_input: Any = None,
    labels: Sequence[str] | None = None,
    *,
    processor: Any = None,
    directory: Path,
) -> ExportedModel:
    """Export `model`, which takes what `processor` makes of images, as a model that takes their
    files.

    `processor` is one of transformers, or a dict with the fields of `schemas.pixels.Processing`; a
    transformers pipeline brings its own. The model is any that `export` takes, with one input
    `[rows, channels, height, width]`. Images are paths, bytes, images of Pillow or arrays in a
    list. `labels` are the model's own where it has names for them.

    Raises `InvalidInput` for a processor that does what an endpoint cannot, or as `export` does.
    """
    from aiaas_magics.runtime.sources import export

    is_pipeline = processor is None
    if is_pipeline:
        model, processor = model.model, model.image_processor
    processing = declared(processor, is_opaque=is_pipeline)
    files = _held_out(contents(example_input if eval_input is None else eval_input))
    rows = numbers(processor, processing, files)
    if labels is None:
        labels = own_labels(model, "ImageClassification")
    exported = export(_module(model), rows[:2], rows, labels, directory=directory)
    inputs = exported.signature.inputs
    if len(inputs) != 1 or len(inputs[0].shape) != len(processing.shape):
        raise InvalidInput(
            "The model has other inputs than one of images.",
            remedy="Give a model that takes rows of channels, height and width.",
        )
    return with_step(exported, "image", files, {"pixels": processing.declaration()}, labels)


def _held_out(files: list[bytes]) -> list[bytes]:
    """The first of them, as many as are compared."""
    count, largest = 0, 0
    for file in files[:_MAX_IMAGES]:
        largest = max(largest, len(file))
        if count and largest * (count + 1) > _MAX_HELD_OUT_BYTES:
            break
        count += 1
    return files[:count]


def _module(model: Any) -> Any:
    """What is exported: of a model of transformers its logits or its vector, alone."""
    forward = getattr(model, "forward", None)
    if forward is None or is_scripted(model):
        return model
    if _INPUT not in inspect.signature(forward).parameters:
        return model
    from aiaas_magics.runtime.named_inputs import with_named_inputs

    def call(module: Any, values: list[Any]) -> Any:
        found = module(**{_INPUT: values[0]})
        if hasattr(found, "logits"):
            return {"logits": found.logits}
        pooled = getattr(found, "pooler_output", None)
        if pooled is None:
            return found if not isinstance(found, Mapping) else dict(found)
        return {_EMBEDDING: pooled.flatten(1)}

    return with_named_inputs(model, [_INPUT], call)
