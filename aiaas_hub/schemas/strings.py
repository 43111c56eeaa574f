"""Strings among numbers: safetensors files have none, so held-out texts are bytes in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_hub.schemas.errors import InvalidInput

_LENGTH = 4
"""Bytes of a length, little-endian, as before the elements of a BYTES tensor on the wire."""


def pack(strings: NDArray[Any]) -> NDArray[np.uint8]:
    """An object array of str or bytes, `[…]`, as uint8 `[…, width]`: each element with its length
    before it and zeros behind it."""
    encoded = [one if isinstance(one, bytes) else str(one).encode() for one in strings.flat]
    width = _LENGTH + max(map(len, encoded), default=0)
    packed = np.zeros((len(encoded), width), np.uint8)
    for row, one in zip(packed, encoded, strict=True):
        whole = len(one).to_bytes(_LENGTH, "little") + one
        row[: len(whole)] = np.frombuffer(whole, np.uint8)
    return packed.reshape(*strings.shape, width)


def unpack(packed: NDArray[Any]) -> NDArray[np.object_]:
    """What `pack` was given, as bytes. Raises `InvalidInput` if it was made by something else."""
    if packed.dtype != np.uint8 or packed.ndim == 0 or packed.shape[-1] < _LENGTH:
        raise InvalidInput("The held-out strings are not packed as strings.")
    rows = packed.reshape(-1, packed.shape[-1])
    strings = np.empty(len(rows), np.object_)
    for index, row in enumerate(rows):
        length = int.from_bytes(row[:_LENGTH].tobytes(), "little")
        if length > len(row) - _LENGTH:
            raise InvalidInput("A held-out string is longer than what is there of it.")
        strings[index] = row[_LENGTH : _LENGTH + length].tobytes()
    return strings.reshape(packed.shape[:-1])
