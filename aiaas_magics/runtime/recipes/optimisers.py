"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn, optim

from aiaas_magics.runtime.recipes.parameters import Parameters

_MAKERS: dict[str, Callable[..., optim.Optimizer]] = {
    # They differ in how many batches make one update: of `gd` all of an epoch do.
    "gd": optim.SGD,
    "sgd": optim.SGD,
    "momentum": lambda groups, **options: optim.SGD(groups, momentum=0.9, **options),
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}


def make(parameters: Parameters, weights: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Over the weights that are trained; biases and norms (fewer than two dimensions) do not
    decay."""
    trained = [weight for weight in weights if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [w for w in trained if w.ndim >= 2], "weight_decay": parameters.weight_decay},
        {"params": [w for w in trained if w.ndim < 2], "weight_decay": 0.0},
    ]
    return _MAKERS[parameters.optimizer](
        [group for group in groups if group["params"]], lr=parameters.lr
    )


def batches_per_update(parameters: Parameters, batches: int) -> int:
    """Of the `batches` of an epoch."""
    return batches if parameters.optimizer == "gd" else min(parameters.accumulate, batches)


def current_rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])
