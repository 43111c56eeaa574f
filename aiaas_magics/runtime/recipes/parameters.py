"""Parameters of the built-in recipes: typed, documented, known without torch.

`%aiaas help recipe NAME` prints them, and a submission is checked against them before it is sent.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

OptimizerName = Literal["gd", "sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"]
ScheduleName = Literal["constant", "cosine", "linear", "step"]

OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
SCHEDULES: tuple[str, ...] = get_args(ScheduleName)


class Parameters(BaseModel):
    """What all recipes have: how to descend, for how long, and on what part of the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=5, ge=1, le=100_000, description="passes over the training rows")
    steps: int | None = Field(
        default=None, ge=1, description="updates of the weights, at most; ends within an epoch"
    )
    batch_size: int = Field(default=32, ge=1, le=1_000_000, description="rows per worker and batch")
    accumulate: int = Field(
        default=1, ge=1, le=10_000, description="batches whose gradients make one update"
    )
    optimizer: OptimizerName = Field(
        default="adamw",
        description="gd takes one update per epoch from all rows, sgd one per batch, momentum is "
        "sgd with 0.9 of the former update",
    )
    lr: float = Field(default=1e-3, gt=0, le=1000, description="learning rate at its highest")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="of adamw decoupled, else L2")
    schedule: ScheduleName = Field(
        default="constant",
        description="of the learning rate: cosine and linear fall to 0 at the end, step divides "
        "by 10 after each third of the updates",
    )
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="share of the updates in which lr rises from 0"
    )
    max_norm: float | None = Field(
        default=None, gt=0, description="gradients are clipped to this norm"
    )
    precision: Literal["float32", "bf16", "fp16"] = Field(
        default="float32", description="what forward and backward compute in"
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="copies of the model on the workers, or shards"
    )
    eval_split: float = Field(
        default=0.2, gt=0, lt=1, description="share of the rows held out for the metrics"
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of split, weights and order")


class Tabular(Parameters):
    batch_size: int = Field(default=64, ge=1, le=1_000_000, description="rows per worker and batch")
    epochs: int = Field(default=20, ge=1, le=100_000, description="passes over the training rows")
    target: str = Field(min_length=1, description="the column to predict")
    columns: str | None = Field(
        default=None, description="inputs, as in 'age,city'; all other columns if left out"
    )
    task: Literal["auto", "classification", "regression"] = Field(
        default="auto",
        description="auto: regression if the target has fractions or over 20 different numbers",
    )
    layers: int = Field(default=2, ge=0, le=100, description="hidden layers; 0 is a linear model")
    width: int = Field(default=64, ge=1, le=100_000, description="units of each hidden layer")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of units left out")


class ImageClassifier(Parameters):
    batch_size: int = Field(default=64, ge=1, le=1_000_000, description="rows per worker and batch")
    target: str = Field(default="label", min_length=1, description="the column of classes")
    pixels: str | None = Field(
        default=None,
        description="the column of images, nested or flat lists; if left out the only column of "
        "lists, else each numeric column is a pixel",
    )
    height: int | None = Field(
        default=None, ge=1, le=10_000, description="of flat images; square if left out"
    )
    channels: Literal[1, 3, 4] = Field(
        default=1, description="of flat images, (height, width, channels)"
    )
    network: Literal["cnn", "resnet"] = Field(
        default="cnn", description="two plain convolutions per stage, or residual ones"
    )
    stages: int = Field(default=2, ge=1, le=6, description="each halves the size of the image")
    width: int = Field(default=16, ge=1, le=4096, description="channels of the first stage")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="share left out before the head")


class TextClassifier(Parameters):
    epochs: int = Field(default=3, ge=1, le=100_000, description="passes over the training rows")
    lr: float = Field(default=5e-5, gt=0, le=1000, description="learning rate at its highest")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="of adamw decoupled, else L2")
    max_norm: float | None = Field(
        default=1.0, gt=0, description="gradients are clipped to this norm"
    )
    model: str = Field(
        min_length=1,
        description="weights and tokenizer of the BERT family: a folder that the workers see, or "
        "a hub's name that the operator allows",
    )
    text: str = Field(default="text", min_length=1, description="the column of texts")
    target: str = Field(default="label", min_length=1, description="the column of classes")
    max_length: int = Field(default=128, ge=4, le=8192, description="tokens of a text; rest is cut")
    frozen: int = Field(
        default=0, ge=0, le=1000, description="this many layers, and the embeddings, stay as loaded"
    )


class CausalLM(Parameters):
    epochs: int = Field(default=3, ge=1, le=100_000, description="passes over the training rows")
    batch_size: int = Field(
        default=16, ge=1, le=1_000_000, description="blocks per worker and batch"
    )
    lr: float = Field(default=5e-4, gt=0, le=1000, description="learning rate at its highest")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="of adamw decoupled, else L2")
    max_norm: float | None = Field(
        default=1.0, gt=0, description="gradients are clipped to this norm"
    )
    eval_split: float = Field(
        default=0.1, gt=0, lt=1, description="share of the texts held out for the metrics"
    )
    text: str = Field(default="text", min_length=1, description="the column of texts")
    model: str | None = Field(
        default=None,
        description="weights and tokenizer of the GPT family, a folder or an allowed hub's name; "
        "if left out a GPT-2 with random weights whose tokens are the bytes of UTF-8",
    )
    layers: int = Field(default=2, ge=1, le=200, description="of the model with random weights")
    heads: int = Field(default=2, ge=1, le=200, description="of the model with random weights")
    width: int = Field(default=64, ge=2, le=20_000, description="of the model with random weights")
    block: int = Field(default=128, ge=8, le=32_768, description="tokens that one packed row holds")
    method: Literal["full", "lora"] = Field(
        default="full", description="train all weights, or small matrices beside them"
    )
    lora_rank: int = Field(default=8, ge=1, le=1024, description="of the matrices of lora")
    lora_alpha: int = Field(default=16, ge=1, le=4096, description="lora's scale is alpha / rank")
