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
            return {
                name: file.get_tensor(name) if rows is None else file.get_slice(name)[:rows]
                for name in file.keys()  # noqa: SIM118  # it is no dict
            }
    except SafetensorError as error:
        raise InvalidInput(
            "The held-out rows are not a readable safetensors file.",
            remedy="Export the model again.",
        ) from error
