"""Schedules of the learning rate by name: factors of its highest value."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from aiaas_magics.runtime.recipes.parameters import Parameters


def factor(name: str, update: int, updates: int, warmup: float) -> float:
    """Of the learning rate at `update`, counted from 0, of `updates`: in [0, 1]."""
    rising = round(warmup * updates)
    if update < rising:
        return (update + 1) / (rising + 1)
    share = (update - rising) / max(1, updates - rising)
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    if name == "linear":
        return max(0.0, 1 - share)
    if name == "step":
        return float(0.1 ** min(2, int(share * 3)))
    return 1.0


def make(parameters: Parameters, optimizer: Optimizer, updates: int) -> LambdaLR:
    return LambdaLR(
        optimizer,
        lambda update: factor(parameters.schedule, update, updates, parameters.warmup),
    )
