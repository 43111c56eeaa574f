"""What a checkpoint's directory holds: one file of torch's."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.schemas.errors import InvalidInput

_STATE_FILE = "state.pt"


def write(directory: Path, state: Mapping[str, Any]) -> None:
    import torch

    torch.save(dict(state), directory / _STATE_FILE)


def read(directory: Path) -> dict[str, Any]:
    """The state, with tensors on the CPU. Raises `InvalidInput` if `write` did not make it."""
    import torch

    file = directory / _STATE_FILE
    if not file.exists():
        raise InvalidInput(
            "The last checkpoint was not made by ctx.checkpoint().",
            remedy="Read it with ray.train.get_checkpoint().",
        )
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Objects of the user's own classes, written by this very run.
        state = torch.load(file, map_location="cpu", weights_only=False)
    return state
