"""A lineage as boxes and arrows: data at the left, what came from it to the right.

In the page itself, not as an image, so that its colours are the theme's. Where a notebook is not
trusted the drawing is left out, and what stands above it says the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiaas_hub.schemas.lineage import LineageNode
from aiaas_magics import display

_WIDTH, _HEIGHT = 176, 46
_ACROSS, _DOWN = 44, 14
_LETTERS = 24
_DRAWN = 60
_TOLD = 2000
_INK = "var(--jp-ui-font-color1,currentColor)"
_MUTED = "var(--jp-ui-font-color2,#888)"
_LINE = "var(--jp-border-color1,#888)"
_ACCENT = {
    "endpoint": "var(--jp-success-color1,#2e9e4f)",
    "model": "var(--jp-brand-color1,#2f80d0)",
    "run": "var(--jp-warn-color1,#c77700)",
}
_FONT = "font-family:var(--jp-ui-font-family,sans-serif)"


def html(nodes: Sequence[LineageNode]) -> str:
    """Inline SVG; empty where there is nothing to connect, or too much to see."""
    if not 2 <= len(nodes) <= _DRAWN:
        return ""
    columns = _columns(nodes)
    places = {
        node.id: (x * (_WIDTH + _ACROSS), y * (_HEIGHT + _DOWN))
        for x, column in enumerate(columns)
        for y, node in enumerate(column)
    }
    width = len(columns) * (_WIDTH + _ACROSS) - _ACROSS
    height = max(map(len, columns)) * (_HEIGHT + _DOWN) - _DOWN
    arrows = "".join(
        _arrow(places[source], places[node.id]) for node in nodes for source in node.of
    )
    boxes = "".join(_box(node, *places[node.id]) for node in nodes)
    label = display.escape(" from ".join(node.name for node in nodes[:5]))
    return (
        f'<div style="overflow-x:auto;margin-top:6px"><svg role="img" aria-label="{label}" '
        f'xmlns="http://www.w3.org/2000/svg" width="{width + 2}" height="{height + 2}" '
        f'viewBox="-1 -1 {width + 2} {height + 2}" style="{_FONT};font-size:12px">'
        f"{arrows}{boxes}</svg></div>"
    )


def _columns(nodes: Sequence[LineageNode]) -> list[list[LineageNode]]:
    """Each thing one column right of all that it came from. Nothing comes from itself: what says
    so is drawn, no further right than there are things."""
    column = {node.id: 0 for node in nodes}
    for _ in nodes:
        for node in nodes:
            after = max((column[source] + 1 for source in node.of), default=0)
            column[node.id] = min(max(column[node.id], after), len(nodes) - 1)
    used = sorted(set(column.values()))
    return [[node for node in nodes if column[node.id] == place] for place in used]


def _box(node: LineageNode, x: int, y: int) -> str:
    told = "\n".join(part for part in (node.name, node.note, node.text[:_TOLD]) if part)
    accent = _ACCENT.get(node.kind, _LINE)
    return (
        f"<g><title>{display.escape(told)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" '
        f'fill="var(--jp-layout-color1,transparent)" stroke="{accent}"/>'
        f'<text x="{x + 9}" y="{y + 18}" fill="{_MUTED}">{display.escape(node.kind)}</text>'
        f'<text x="{x + 9}" y="{y + 36}" fill="{_INK}">{display.escape(_short(node.name))}</text>'
        "</g>"
    )


def _short(name: str) -> str:
    """The end tells versions apart, and the beginning owners."""
    name = display.clean(name)
    if len(name) <= _LETTERS:
        return name
    kept = (_LETTERS - 1) // 2
    return f"{name[:kept]}…{name[-(_LETTERS - 1 - kept) :]}"


def _arrow(source: tuple[int, int], target: tuple[int, int]) -> str:
    x, y = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    to_x, to_y = target[0], target[1] + _HEIGHT // 2
    bend = max(20, (to_x - x) // 2)
    return (
        f'<path d="M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x - 7} {to_y}" fill="none" '
        f'stroke="{_MUTED}"/>'
        f'<path d="M{to_x} {to_y}l-8 -4v8z" fill="{_MUTED}"/>'
    )
