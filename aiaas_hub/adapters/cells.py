"""Cells of a table as JSON values, bounded: what a preview shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pydantic_core import to_jsonable_python

MAX_CELL = 10_000
"""Characters of one text in a preview; the rest is an ellipsis."""
MAX_PREVIEW_CHARACTERS = 4 << 20


def rows_of(batches: Iterable[pa.RecordBatch], limit: int) -> list[list[Any]]:
    """The first rows, at most `limit` and at most `MAX_PREVIEW_CHARACTERS` of text."""
    found: list[list[Any]] = []
    room = MAX_PREVIEW_CHARACTERS
    for batch in batches:
        for position in range(min(batch.num_rows, limit - len(found))):
            row = [plain(column[position].as_py()) for column in batch.columns]
            room -= sum(len(value) if isinstance(value, str) else 8 for value in row)
            found.append(row)
            if room < 0 or len(found) == limit:
                return found
    return found


def plain(value: Any) -> Any:
    """A JSON value. JSON has no NaN, which a name keeps apart from null."""
    if isinstance(value, (str, bytes)) and len(value) > MAX_CELL:
        return plain(value[:MAX_CELL]) + "…"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return to_jsonable_python(value, bytes_mode="base64", fallback=str)
