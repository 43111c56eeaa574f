"""A model object of the notebook as a version of a model, exported here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Card, ModelVersion, ModelVersionCreate
from aiaas_hub.schemas.names import check_name
from aiaas_magics.client import Client
from aiaas_magics.runtime import torchscript

_FILES = (".onnx", *torchscript.SUFFIXES)


def register(
    client: Client,
    name: str | None,
    model: Any,
    example: Any,
    eval_input: Any,
    labels: Sequence[str] | None,
    said: Card,
    **step: Any,
) -> ModelVersion:
    """Export a model object, or the file of one, and keep it as a version of my model `name`.

    `said` is its card. Raises `InvalidInput` as `export` does, and for what is no model.
    """
    from aiaas_magics.runtime.sources import export

    if isinstance(model, str) and not model.endswith(_FILES):
        raise InvalidInput(
            f"{model[:100]!r} is neither a model nor its file.",
            remedy=f"Give an object, or a path that ends with one of {', '.join(_FILES)}; a run's "
            "model is aiaas.runs.get(ID), a registered one aiaas.models.get(NAME).",
        )
    if name is None:
        raise InvalidInput("There is no name for it.", remedy="Add name='…'.")
    check_name(name)
    if example is None:
        raise InvalidInput(
            "There is no example input to export the model with.",
            remedy="Give a small batch after the model, for example x[:2].",
        )
    with tempfile.TemporaryDirectory(prefix="aiaas-") as directory:
        exported = export(model, example, eval_input, labels, **step, directory=Path(directory))
        request = ModelVersionCreate(
            onnx=client.upload(exported.onnx_path).digest,
            evaluation=client.upload(exported.evaluation_path).digest,
            signature=exported.signature,
            export_max_abs=exported.export_max_abs,
            framework=exported.framework,
            card=said,
        )
    return client.models.create_version(client.user, name, request)
