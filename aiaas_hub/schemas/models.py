"""Models on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.names import Name

DType = Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
"""NumPy's names of the tensor types that Triton and ONNX share."""


class TensorSpec(BaseModel):
    name: str = Field(min_length=1, max_length=256)
    dtype: DType
    shape: list[Annotated[int, Field(ge=1, le=2**31 - 1)] | None] = Field(max_length=16)
    """Without the batch dimension; None stands for a free one."""


class Signature(BaseModel):
    """Inputs and outputs. Every tensor has a leading batch dimension besides its `shape`."""

    inputs: list[TensorSpec] = Field(min_length=1, max_length=64)
    outputs: list[TensorSpec] = Field(min_length=1, max_length=64)
    labels: list[Annotated[str, Field(max_length=1000)]] | None = Field(
        default=None, max_length=100_000
    )
    """Class names of the first output's last axis, where it has them."""


class ModelHandOver(BaseModel):
    """An exported model: two uploaded blobs and what is known of them.

    `evaluation` is a safetensors file with the held-out rows: `input.<name>` and, from the
    source model, `output.<name>`, equal in their first dimension.
    """

    onnx: Digest
    evaluation: Digest
    signature: Signature
    export_max_abs: float = Field(ge=0, allow_inf_nan=False)
    """Largest difference between source model and onnxruntime that the exporter measured."""
    framework: str = Field(default="", max_length=100)
    """For example `torch 2.13.0`."""


class PinnedModel(BaseModel):
    owner: str
    name: Name
    version: int

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}@{self.version}"


class ModelVersionCreate(ModelHandOver):
    """A version registered from a notebook's own object."""


class Card(BaseModel):
    """What the owner says of a version; the rest of its card is known."""

    description: str = Field(default="", max_length=10_000)
    licence: str = Field(default="", max_length=200)
    """For example an SPDX identifier, `Apache-2.0`."""
    metrics: dict[Annotated[str, Field(max_length=100)], float] = Field(
        default_factory=dict, max_length=100
    )
    """Of an evaluation of the owner's; those of the run are known."""


class AliasTarget(BaseModel):
    version: int = Field(ge=1, le=2**31 - 1)


class ModelVersion(BaseModel):
    owner: str
    name: Name
    version: int
    created_at: datetime
    signature: Signature
    onnx: Digest
    size: int
    """Bytes of `model.onnx`."""
    export_max_abs: float
    framework: str
    run_id: str | None = None
    """None: registered from a notebook."""
    card: Card = Card()


class Model(BaseModel):
    owner: str
    name: Name
    created_at: datetime
    updated_at: datetime
    latest: ModelVersion
    """Or the version that was asked for."""
    aliases: dict[str, int] = {}
    """Name → version, as in `name@champion`."""
