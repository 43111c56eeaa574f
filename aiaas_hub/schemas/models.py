"""Models on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.names import Name

DType = Literal[
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "string"
]
"""NumPy's names of the tensor types that Triton and ONNX share, and `string`: Triton's BYTES."""

Kind = Literal["text", "image", "label", "prompt", "completion"]
"""What a string is to people: a text that is typed, an image's file, the name of a class, a text
that a language model goes on with, or how it does."""


class TensorSpec(BaseModel):
    name: str = Field(min_length=1, max_length=256)
    dtype: DType
    shape: list[Annotated[int, Field(ge=1, le=2**31 - 1)] | None] = Field(max_length=16)
    """Without the batch dimension; None stands for a free one."""
    kind: Kind | None = None
    """Set where the endpoint itself makes the model's tensors of it, or it of them; such a tensor
    is a string of the shape `[1]`."""


class Signature(BaseModel):
    """Inputs and outputs. Every tensor has a leading batch dimension besides its `shape`."""

    inputs: list[TensorSpec] = Field(min_length=1, max_length=64)
    outputs: list[TensorSpec] = Field(min_length=1, max_length=64)
    labels: list[Annotated[str, Field(max_length=1000)]] | None = Field(
        default=None, max_length=100_000
    )
    """Class names of the first output's last axis, where it has them."""

    @property
    def takes_text(self) -> bool:
        """Whether the endpoint makes tokens of texts itself."""
        return any(spec.kind == "text" for spec in self.inputs)

    @property
    def takes_image(self) -> bool:
        """Whether the endpoint decodes images itself."""
        return any(spec.kind == "image" for spec in self.inputs)

    @property
    def generates(self) -> bool:
        """Whether the endpoint goes on with texts, token by token."""
        return any(spec.kind == "prompt" for spec in self.inputs)

    @property
    def has_step(self) -> bool:
        """Whether the endpoint makes the model's tensors of something else."""
        return self.takes_text or self.takes_image or self.generates

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        for spec in (*self.inputs, *self.outputs):
            if spec.kind is not None and (spec.dtype, spec.shape) != ("string", [1]):
                raise ValueError(f"the {spec.kind} {spec.name} is not a string of the shape [1]")
        if any(spec.kind in ("label", "completion") for spec in self.inputs):
            raise ValueError("an input is no label and no completion")
        if any(spec.kind in ("text", "image", "prompt") for spec in self.outputs):
            raise ValueError("an output is no text, no image and no prompt")
        if self.has_step and len(self.inputs) > 1:
            raise ValueError("a text, an image or a prompt is the only input where it is one")
        kinds = [spec.kind for spec in self.outputs]
        if self.generates != ("completion" in kinds) or (
            self.generates and kinds != [None, "completion"]
        ):
            raise ValueError("a prompt is answered with logits and a completion, and nothing else")
        named = [spec for spec in self.outputs if spec.kind == "label"]
        if named and (not self.has_step or len(named) > 1 or named[0] is self.outputs[0]):
            raise ValueError(
                "a label is the name of the first output's largest value for a text or an image"
            )
        if named and self.labels is None:
            raise ValueError("there are no labels to choose from")
        return self


class Card(BaseModel):
    """What the owner says of a version; the rest of its card is known."""

    description: str = Field(default="", max_length=10_000)
    licence: str = Field(default="", max_length=200)
    """For example an SPDX identifier, `Apache-2.0`."""
    metrics: dict[Annotated[str, Field(max_length=100)], float] = Field(
        default_factory=dict, max_length=100
    )
    """Of an evaluation of the owner's; those of the run are known."""


class ModelHandOver(BaseModel):
    """An exported model: two uploaded blobs and what is known of them.

    `evaluation` is a safetensors file with the held-out rows: `input.<name>` and, from the
    source model, `output.<name>`, equal in their first dimension. Strings are in it as
    `schemas.strings.pack` makes them; of labels there is none, as the outputs decide them.
    """

    onnx: Digest
    evaluation: Digest
    signature: Signature
    export_max_abs: float = Field(ge=0, allow_inf_nan=False)
    """Largest difference between source model and onnxruntime that the exporter measured."""
    framework: str = Field(default="", max_length=100)
    """For example `torch 2.13.0`."""
    card: Card = Card()


class PinnedModel(BaseModel):
    owner: str
    name: Name
    version: int

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}@{self.version}"


class ModelVersionCreate(ModelHandOver):
    """A version registered from a notebook's own object."""


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
