"""Statistics of a dataset's columns, as they look in a notebook."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from aiaas_hub.schemas import profiles as wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import display
from aiaas_magics.display import Rich

# A mid-tone that can be read on white and on dark grey alike.
_INK = "#3b82d0"
_WIDTH, _HEIGHT = 120, 28
_BLOCKS = "▁▂▃▄▅▆▇█"
_SHOWN_VALUES = 3


class Profile(Rich):
    """What is in a version's columns. `profile["price"]` gives one column's figures."""

    def __init__(self, title: str, record: wire.Profile) -> None:
        self._title = title
        self._record = record

    @property
    def rows(self) -> int:
        return self._record.rows

    @property
    def looked_at(self) -> int:
        """Rows that the figures are of: a random part of a large version."""
        return self._record.looked_at

    @property
    def duplicates(self) -> int:
        """Rows, of those looked at, that are equal to one before them."""
        return self._record.duplicates

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self._record.columns]

    def __getitem__(self, column: str) -> wire.ColumnProfile:
        """Raises `InvalidInput` for a column that is not there."""
        for found in self._record.columns:
            if found.name == column:
                return found
        raise InvalidInput(
            f"{self._title} has no column {column!r}.",
            remedy=f"Its columns are {', '.join(self.columns[:12])}.",
        )

    @property
    def caption(self) -> str:
        """What the figures are of."""
        record = self._record
        text = f"{self._title}: {record.rows:,} rows, {len(record.columns):,} columns"
        if record.is_sampled:
            text += f"; the figures are of {record.looked_at:,} rows chosen at random"
        where = " among these" if record.is_sampled else ""
        return f"{text}; {record.duplicates:,} duplicate rows{where}"

    def _html(self) -> str:
        titles = ["column", "type", "missing", "distinct", "what is in it", "spread"]
        rows = [
            [
                display.code(column.name),
                display.escape(column.type),
                display.escape(_share(column.nulls, self._record.looked_at)),
                display.escape(_distinct(column)),
                "<br>".join(display.escape(line) for line in _facts(column)),
                _picture(column),
            ]
            for column in self._record.columns
        ]
        return f"{display.muted(self.caption)}{display.table(titles, rows)}"

    def _text(self) -> str:
        return f"{self.caption}\n{display.text_table(*self.text_table())}"

    def text_table(self) -> tuple[list[str], list[list[str]]]:
        """Titles, and a row for each column."""
        rows = [
            [
                display.clean(column.name),
                column.type,
                _share(column.nulls, self._record.looked_at),
                _distinct(column),
                _sparkline(column),
                "; ".join(display.clean(fact) for fact in _facts(column)),
            ]
            for column in self._record.columns
        ]
        return ["column", "type", "missing", "distinct", "spread", "what is in it"], rows


def _share(count: int, total: int) -> str:
    if not count:
        return "0"
    percent = 100 * count / total if total else 0.0
    return f"{count:,} ({percent:.2g} %)"


def _distinct(column: wire.ColumnProfile) -> str:
    if column.distinct is None:
        return ""
    exact = column.distinct <= 50 and column.kind in ("text", "boolean", "number")
    return f"{column.distinct:,}" if exact else f"~{column.distinct:,}"


def _facts(column: wire.ColumnProfile) -> list[str]:
    facts = [column.note] if column.note else []
    if column.least is not None:
        facts.append(f"{_value(column.least)} to {_value(column.most)}")
    if column.mean is not None:
        spread = "" if column.deviation is None else f" ± {display.number(column.deviation)}"
        facts.append(f"mean {display.number(column.mean)}{spread}")
    if column.quantiles:
        quarters = [display.number(column.quantiles[share]) for share in ("0.25", "0.5", "0.75")]
        facts.append(f"quartiles {', '.join(quarters)}")
    if column.not_finite:
        facts.append(f"{column.not_finite:,} NaN or infinite")
    if column.lengths is not None:
        found = column.lengths
        facts.append(f"length {found.least:,} to {found.most:,}, mean {found.mean:.1f}")
    if column.top and column.kind != "number":
        shown = [f"{_value(top.value)}: {top.count:,}" for top in column.top[:_SHOWN_VALUES]]
        facts.append(", ".join(shown) + (", …" if len(column.top) > _SHOWN_VALUES else ""))
    if column.balance is not None:
        facts.append(f"balance {column.balance:.2f}")
    return facts


def _value(value: object) -> str:
    if isinstance(value, float):
        return display.number(value)
    text = str(value).replace("\n", " ")
    return text if len(text) <= 30 else f"{text[:29]}…"


def _bars(column: wire.ColumnProfile) -> list[int]:
    if column.histogram is not None:
        return column.histogram.counts
    return [top.count for top in column.top]


def _picture(column: wire.ColumnProfile) -> str:
    """The histogram, or the most frequent values, as an image that needs no trust."""
    bars = _bars(column)
    if not bars or not max(bars):
        return ""
    step = _WIDTH / len(bars)
    drawn = "".join(
        f'<rect x="{place * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step * 0.85:.1f}" '
        f'height="{height:.1f}"/>'
        for place, count in enumerate(bars)
        # What is there at all can be seen.
        for height in [max(1.0, _HEIGHT * count / max(bars)) if count else 0.0]
    )
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'fill="{_INK}">{drawn}</svg>'
    )
    label = display.escape(f"spread of {column.name}: {_described(column)}")
    encoded = base64.b64encode(picture.encode()).decode()
    return f'<img alt="{label}" title="{label}" src="data:image/svg+xml;base64,{encoded}">'


def _described(column: wire.ColumnProfile) -> str:
    histogram = column.histogram
    if histogram is None:
        return ", ".join(f"{_value(top.value)} {top.count:,}" for top in column.top)
    first, last = histogram.edges[0], histogram.edges[-1]
    if column.kind == "time":
        return f"from {_moment(first)} to {_moment(last)}"
    return f"from {display.number(first)} to {display.number(last)}"


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.4g} s"


def _sparkline(column: wire.ColumnProfile) -> str:
    bars = _bars(column)
    if not bars or not max(bars):
        return ""
    scale = (len(_BLOCKS) - 1) / max(bars)
    return "".join(_BLOCKS[int(count * scale)] for count in bars)
