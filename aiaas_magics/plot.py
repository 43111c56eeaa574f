"""A run's metrics as a picture that can be read on light and on dark pages."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiaas_magics import display

if TYPE_CHECKING:
    from aiaas_hub.schemas.runs import MetricPoint

# Mid-tones with enough contrast on white and on JupyterLab's dark grey alike.
_INK = "#8a8a8a"
_LINE = "#3b82d0"
_PANELS = 4
_POINTS = 600
_FIRST = ("loss", "accuracy")


def series(points: Sequence[MetricPoint]) -> dict[str, tuple[list[int], list[float]]]:
    """Metric → its steps and values, loss and accuracy first."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for point in points:
        for name, value in point.values.items():
            steps, values = found.setdefault(name, ([], []))
            steps.append(point.step)
            values.append(value)
    return dict(sorted(found.items(), key=lambda item: (_rank(item[0]), item[0])))


def html(points: Sequence[MetricPoint]) -> str:
    """The metrics over their steps as an image, or as text where matplotlib is missing."""
    curves = series(points)
    if not curves:
        return ""
    try:
        picture = base64.b64encode(_svg(curves)).decode()
    except ImportError:
        return display.pre(text(points))
    label = display.escape(f"{', '.join(curves)} by step")
    # As an image it needs no trust: a notebook opened again still shows it.
    return f'<img alt="{label}" style="max-width:100%" src="data:image/svg+xml;base64,{picture}">'


def text(points: Sequence[MetricPoint]) -> str:
    """Each metric as a line of blocks with its first and last value."""
    lines = []
    for name, (_, values) in series(points).items():
        # A loss that is no number any more is said at the line's end, and has no block.
        finite = [value for value in _thin(values, 40) if abs(value) < 1e300]
        low, high = min(finite, default=0.0), max(finite, default=0.0)
        blocks = "▁▂▃▄▅▆▇█"
        scale = (len(blocks) - 1) / ((high - low) or 1)
        bars = "".join(blocks[int((value - low) * scale)] for value in finite)
        first, last = display.number(values[0]), display.number(values[-1])
        lines.append(f"{display.clean(name)}: {first} {bars} {last}")
    return "\n".join(lines)


def _svg(curves: dict[str, tuple[list[int], list[float]]]) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = list(curves.items())[:_PANELS]
    # Text stays text: smaller, and drawn in the reader's own font. `$` is a letter here.
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 9, "text.parse_math": False}):
        # Not pyplot: it would register the figure, and change the user's own backend.
        figure = Figure(figsize=(3.4 * len(shown), 2.2), layout="constrained")
        for position, (name, (steps, values)) in enumerate(shown, start=1):
            axes = figure.add_subplot(1, len(shown), position)
            marker = "o" if len(values) < 3 else None
            axes.plot(
                _thin(steps, _POINTS), _thin(values, _POINTS), color=_LINE, lw=1.4, marker=marker
            )
            axes.set_title(_title(name, values[-1]), color=_INK, fontsize=10)
            axes.set_xlabel("step", color=_INK)
            axes.set_facecolor("none")
            axes.tick_params(colors=_INK)
            axes.grid(color=_INK, alpha=0.2)
            for side, spine in axes.spines.items():
                spine.set_visible(side in ("left", "bottom"))
                spine.set_color(_INK)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _title(name: str, last: float) -> str:
    """A line ends where its values are no numbers, which has to be said."""
    shown = display.clean(name)[:40]
    return shown if math.isfinite(last) else f"{shown} ({display.number(last)})"


def _thin(values: Sequence[float], most: int) -> Sequence[float]:
    """At most about `most` of them, evenly, with the last one."""
    stride = -(-len(values) // most)
    if stride <= 1:
        return values
    thinned = list(values[::stride])
    if (len(values) - 1) % stride:
        thinned.append(values[-1])
    return thinned


def _rank(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)
