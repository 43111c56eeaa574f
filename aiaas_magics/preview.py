"""The first rows of a dataset, and rows that fulfil a condition."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas import datasets as wire
from aiaas_magics import display
from aiaas_magics.display import Rich

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_COLUMNS = 12
_SHOWN_CHARACTERS = 80
# How the first bytes of PNG, JPEG, GIF and WebP look in base64; one that is cut has an ellipsis.
_IMAGES = {"iVBORw0KGgo": "png", "_9j_": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
_BASE64 = re.compile(r"[A-Za-z0-9_-]+={0,2}")


class Preview(Rich):
    """Some rows of a dataset; `.rows`, `.columns` and `.to_pandas()` give them."""

    def __init__(self, title: str, record: wire.Preview) -> None:
        self._title = title
        self._record = record

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self._record.columns]

    @property
    def rows(self) -> list[list[Any]]:
        return self._record.rows

    @property
    def total_rows(self) -> int:
        return self._record.total_rows

    def __len__(self) -> int:
        return len(self._record.rows)

    def to_pandas(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self._record.rows, columns=self.columns)

    @property
    def truncated(self) -> bool:
        """Whether there are more rows after these."""
        return self._record.truncated

    @property
    def caption(self) -> str:
        """Which rows these are, of what."""
        record = self._record
        shown, first = len(record.rows), record.offset
        which = f"rows {first + 1:,} to {first + shown:,}" if first and shown else f"{shown:,}"
        if record.filtered:
            which = f"{which if first and shown else f'{shown:,} rows'} that fulfil the condition"
            which += ", with more after them" if record.truncated else ", and no more"
            which += f", of {record.total_rows:,} rows in all"
        else:
            which += f" of {record.total_rows:,}" + ("" if first and shown else " rows")
        return f"{self._title}: {which}, {len(self.columns):,} columns"

    def _html(self) -> str:
        types = [column.type for column in self._record.columns]
        rows = [
            [_html_cell(value, type_) for value, type_ in zip(row, types, strict=True)]
            for row in self._record.rows
        ]
        titles = [f"{column.name} ({column.type})" for column in self._record.columns]
        return f"{display.muted(self.caption)}{display.table(titles, rows)}"

    def _text(self) -> str:
        # A terminal is some 100 characters wide: the first columns say what the table is.
        names = self.columns[:_SHOWN_COLUMNS]
        rows = [
            [display.clean(cell_text(value)).replace("\n", " ") for value in row[:_SHOWN_COLUMNS]]
            for row in self._record.rows
        ]
        return f"{self.caption}\n{display.text_table(names, rows)}" if names else self.caption


def _html_cell(value: object, type_: str) -> str:
    """A thumbnail of an image, a folded nested value, or the text."""
    source = image_source(value, type_)
    if source is not None:
        return f'<img alt="" style="max-height:64px" src="{source}">'
    if isinstance(value, (dict, list)) and len(str(value)) > _SHOWN_CHARACTERS:
        return (
            f"<details><summary>{display.escape(cell_text(value))}</summary>"
            f"{display.pre(json.dumps(value, indent=1, ensure_ascii=False))}</details>"
        )
    return display.escape(cell_text(value))


def image_source(value: object, type_: str) -> str | None:
    """The address of an image that holds all of it; None for anything else."""
    if not isinstance(value, str) or "binary" not in type_:
        return None
    kind = next((kind for start, kind in _IMAGES.items() if value.startswith(start)), None)
    if kind is None or not _BASE64.fullmatch(value):
        return None
    # The wire has the alphabet of URLs, an image's address the other one.
    return f"data:image/{kind};base64,{value.replace('-', '+').replace('_', '/')}"


def cell_text(value: object) -> str:
    """Short enough for a table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
