"""Tensors from safetensors files, which hold numbers and nothing that could run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from aiaas_hub.schemas.errors import InvalidInput


def read_tensors(path: Path, rows: int | None = None) -> dict[str, NDArray[Any]]:
    """All tensors of a file, whole or their first `rows` rows. Raises `InvalidInput` if the file
    is not of this format."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if rows is None:
                return {name: file.get_tensor(name) for name in names}
            parts = {name: file.get_slice(name) for name in names}
            # A slice beyond the end is an error here.
            return {name: part[: min(rows, part.get_shape()[0])] for name, part in parts.items()}
    except SafetensorError as error:
        raise InvalidInput(
            "The held-out rows are not a readable safetensors file.",
            remedy="Export the model again.",
        ) from error
