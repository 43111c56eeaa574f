"""How things look in a notebook: escaped HTML that follows the page's theme, and plain text.

Colours are JupyterLab's own variables with fallbacks that can be read on light and dark pages,
so that a display is right in Lab, in a classic page and in an exported file.
"""

from __future__ import annotations

import html
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

T = TypeVar("T")

_MUTED = "color:var(--jp-ui-font-color2,#888)"
_BORDER = "1px solid var(--jp-border-color2,#8886)"
_MONO = "font-family:var(--jp-code-font-family,monospace)"

_STATE_COLOURS = {
    "succeeded": "var(--jp-success-color1,#2e9e4f)",
    "serving": "var(--jp-success-color1,#2e9e4f)",
    "ready": "var(--jp-success-color1,#2e9e4f)",
    "failed": "var(--jp-error-color1,#d64545)",
    "lost": "var(--jp-error-color1,#d64545)",
    "unavailable": "var(--jp-error-color1,#d64545)",
    "cancelled": "var(--jp-ui-font-color2,#888)",
    "retired": "var(--jp-ui-font-color2,#888)",
    "queued": "var(--jp-warn-color1,#c77700)",
}
# A notebook's file keeps what it shows.
_SHOWN_LINES = 1000
_SHOWN_CHARACTERS = 100_000
_OTHER_STATE = "var(--jp-brand-color1,#2f80d0)"

# Escape sequences and control characters: a log line or a name may hold any, and a terminal
# would obey them.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Rich(ABC):
    """An object with an HTML display and a plain text; subclasses give both."""

    @abstractmethod
    def _html(self) -> str: ...

    @abstractmethod
    def _text(self) -> str: ...

    def __repr__(self) -> str:
        return clean(self._text())

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        return {"text/html": self._html(), "text/plain": clean(self._text())}


@dataclass(frozen=True, repr=False)
class Note(Rich):
    """One line that says what was done."""

    text: str

    def _html(self) -> str:
        return f"<div>{escape(self.text)}</div>"

    def _text(self) -> str:
        return clean(self.text)


class Text(str, Rich):
    """A text of several lines, such as a log, that shows itself line by line.

    Of a long one the end is shown, so that it does not fill the notebook's file.
    """

    __slots__ = ()

    def _html(self) -> str:
        shown, cut = self._end()
        return (f"<div>{muted(cut)}</div>" if cut else "") + pre(shown, limit="40em")

    def _text(self) -> str:
        shown, cut = self._end()
        return clean(f"{cut}\n{shown}" if cut else shown)

    def _end(self) -> tuple[str, str]:
        """What is shown, and what is said of the rest."""
        tail = str(self)[-_SHOWN_CHARACTERS:]
        lines = tail.split("\n")
        if len(tail) < len(self) and len(lines) > 1:
            # The first one may have lost its head.
            lines = lines[1:]
        lines = lines[-_SHOWN_LINES:]
        shown = "\n".join(lines)
        if len(shown) == len(self):
            return shown, ""
        lines_in_all = self.count("\n") + 1
        return shown, f"The last {len(lines):,} of {lines_in_all:,} lines; print(…) shows them all."

    __repr__ = Rich.__repr__


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table: its heading and how a row's text is made."""

    title: str
    text: Callable[[T], object]
    html: Callable[[T], str] | None = None
    """Safe HTML, where it is more than the escaped text."""


class Listing(list[T], Rich):
    """A list that shows itself as a table, or says what to type while it is empty."""

    def __init__(self, items: Iterable[T], columns: Sequence[Column[T]], *, empty: str) -> None:
        super().__init__(items)
        self._columns = columns
        self._empty = empty

    def _html(self) -> str:
        if not self:
            return f'<div style="{_MUTED}">{escape(self._empty)}</div>'
        return table(
            [column.title for column in self._columns],
            [
                [
                    column.html(item) if column.html else escape(column.text(item))
                    for column in self._columns
                ]
                for item in self
            ],
        )

    def _text(self) -> str:
        if not self:
            return self._empty
        rows = [[clean(str(column.text(item))) for column in self._columns] for item in self]
        return text_table([column.title for column in self._columns], rows)

    __repr__ = Rich.__repr__


def clean(text: str) -> str:
    """Without escape sequences and control characters, save newline and tab."""
    return _CONTROL.sub("", _ANSI.sub("", text))


def sentence(text: str) -> str:
    """With a full stop, so that a remedy may follow."""
    text = clean(text).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def escape(value: object) -> str:
    return html.escape(clean(str(value)), quote=True)


def badge(state: str) -> str:
    colour = _STATE_COLOURS.get(state, _OTHER_STATE)
    return (
        f'<span style="border:1px solid {colour};color:{colour};border-radius:9px;'
        f'padding:0 8px;font-size:90%">{escape(state)}</span>'
    )


def muted(value: object) -> str:
    return f'<span style="{_MUTED}">{escape(value)}</span>'


def picture(address: str, label: str) -> str:
    """A small one, its pixels as they are; `address`: of our own making."""
    return (
        f'<img src="{escape(address)}" alt="{escape(label)}" '
        f'style="height:8em;image-rendering:pixelated">'
    )


def code(value: object) -> str:
    return f'<code style="{_MONO}">{escape(value)}</code>'


def pre(text: str, *, limit: str = "16em") -> str:
    return pre_html(escape(text), limit=limit)


def pre_html(safe: str, *, limit: str) -> str:
    """Lines of safe HTML; what is higher than `limit` scrolls, by keyboard as well."""
    return (
        f'<pre tabindex="0" style="{_MONO};font-size:85%;max-height:{limit};overflow:auto;'
        f"margin:4px 0;padding:6px;border:{_BORDER};white-space:pre-wrap;background:transparent;"
        f'color:inherit">{safe}</pre>'
    )


def log(text: str, title: str = "") -> str:
    """A few last lines. Not scrollable: what is drawn again loses its place."""
    heading = f"<div>{muted(title)}</div>" if title else ""
    return (
        f'<div style="min-width:0;margin-top:6px">{heading}<pre style="{_MONO};font-size:85%;'
        f"margin:4px 0;padding:6px;border:{_BORDER};overflow:hidden;white-space:pre-wrap;"
        f'overflow-wrap:anywhere;background:transparent;color:inherit">{escape(text)}</pre></div>'
    )


def grid(boxes: Sequence[str]) -> str:
    """Safe HTML beside each other, as many as the page is wide."""
    style = "display:grid;grid-template-columns:repeat(auto-fit,minmax(20em,1fr));gap:0 8px"
    return f'<div style="{style}">{"".join(boxes)}</div>'


def bar(share: float, label: str, *, width: str = "12em") -> str:
    """How much of a whole: `share` is 0 to 1, `label` says it to those who do not see it."""
    percent = f"{100 * share:.0f}"
    return (
        f'<span role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" '
        f'aria-label="{escape(label)}" style="display:inline-block;vertical-align:middle;'
        f"width:{width};height:.7em;margin-right:8px;border:{_BORDER};border-radius:4px;"
        f'overflow:hidden"><span style="display:block;height:100%;width:{percent}%;'
        f'background:{_OTHER_STATE}"></span></span>'
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`rows` hold safe HTML; the titles are escaped here."""
    cell = f"text-align:left;padding:3px 10px;border-bottom:{_BORDER}"
    head = "".join(f'<th style="{cell};font-weight:600">{escape(t)}</th>' for t in titles)
    body = "".join(
        "<tr>" + "".join(f'<td style="{cell}">{value}</td>' for value in row) + "</tr>"
        for row in rows
    )
    return (
        '<div style="overflow:auto"><table style="border-collapse:collapse">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def card(title: str, state: str | None, facts: Sequence[tuple[str, str]], *more: str) -> str:
    """A heading, a state, facts (label, safe HTML) and further safe HTML below."""
    heading = f'<b style="font-size:105%">{escape(title)}</b>'
    if state is not None:
        heading += f" {badge(state)}"
    lines = "".join(
        f'<div style="display:flex;gap:8px"><span style="{_MUTED};flex:none;min-width:7em">'
        f'{escape(label)}</span> <div style="min-width:0">{value}</div></div>'
        for label, value in facts
        if value
    )
    return (
        f'<div style="border:{_BORDER};border-radius:4px;padding:8px 12px;max-width:60em;'
        f'line-height:1.6">'
        f"<div>{heading}</div>{lines}{''.join(more)}</div>"
    )


def text_card(title: str, state: str | None, facts: Sequence[tuple[str, str]]) -> str:
    head = title if state is None else f"{title} [{state}]"
    return "\n".join(
        [clean(head), *(f"  {label}: {clean(value)}" for label, value in facts if value)]
    )


def text_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = (
        "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        for row in (titles, *rows)
    )
    return "\n".join(lines)


def size(count: int) -> str:
    """Bytes for people: powers of 1024 with the units that say so."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def about(seconds: float) -> str:
    """Of an estimate: `20 s`, `4 min`, `1 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def ago(moment: datetime) -> str:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min ago"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h ago"
    return f"{moment:%Y-%m-%d}"


def number(value: float) -> str:
    """Four significant digits: enough to watch a loss fall."""
    return f"{value:.4g}"
