"""Curves as a picture that can be read on light and on dark pages, and as plain text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiaas_magics import display
from aiaas_magics.curves import Curve, Curves, phase, spans_decades, thinned

# Mid-tones with enough contrast on white and on JupyterLab's dark grey alike; with the dashes
# they are told apart without colours, too.
_INK = "#8a8a8a"
_COLOURS = ("#3b82d0", "#d9822b", "#3a9d5d", "#a970d6", "#d0568a", "#3ba5a5", "#9a8427", "#7f7f9f")
_DASHES = ("-", "--", "-.", ":")
_PANELS = 6
_ACROSS = 3
_POINTS = 300
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Panel:
    """One set of axes: what is measured, and a curve for each label."""

    title: str
    curves: Mapping[str, Curve]
    across: str = "step"
    """What the steps are."""


def panels(curves: Curves) -> list[Panel]:
    """One for each thing measured: `loss`, `train_loss` and `val_loss` share one."""
    found: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        measured, data = phase(name)
        found.setdefault(measured, {})[data or name] = curve
    return [Panel(title, together) for title, together in found.items()]


def overlaid(runs: Mapping[str, Curves]) -> list[Panel]:
    """One for each metric, with a curve for each run that has it."""
    names = dict.fromkeys(name for curves in runs.values() for name in curves)
    return [
        Panel(name, {label: curves[name] for label, curves in runs.items() if name in curves})
        for name in names
    ]


def html(shown: list[Panel], most: int = _PANELS) -> str:
    """The panels as one image, or as text where matplotlib is missing; what is beyond the first
    `most` is only named."""
    if not shown:
        return ""
    try:
        picture = base64.b64encode(_svg(shown[:most])).decode()
    except ImportError:
        return display.pre(text(shown))
    label = display.escape(f"{', '.join(panel.title for panel in shown[:most])} by step")
    more = ", ".join(display.clean(panel.title)[:40] for panel in shown[most:][:20])
    # As an image it needs no trust: a notebook opened again still shows it.
    image = f'<img alt="{label}" style="max-width:100%" src="data:image/svg+xml;base64,{picture}">'
    return image + (f"<div>{display.muted(f'not drawn: {more}')}</div>" if more else "")


def text(shown: list[Panel]) -> str:
    """Each curve as a line of blocks with its first and last value."""
    lines = []
    for panel in shown:
        for label, curve in panel.curves.items():
            name = panel.title if label == panel.title else f"{panel.title} {label}"
            lines.append(f"{display.clean(name)}: {_sparkline(curve)}")
    return "\n".join(lines)


def _sparkline(curve: Curve) -> str:
    kept = [curve.values[i] for i in thinned(curve.values, 40)]
    # A loss that is no number any more is said at the line's end, and has no block.
    finite = [value for value in kept if abs(value) < 1e300]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_BLOCKS) - 1) / ((high - low) or 1)
    bars = "".join(_BLOCKS[int((value - low) * scale)] for value in finite)
    return f"{display.number(curve.values[0])} {bars} {display.number(curve.last)}"


def _svg(shown: list[Panel]) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    across = min(len(shown), _ACROSS)
    down = -(-len(shown) // across)
    # Text stays text: smaller, and drawn in the reader's own font. `$` is a letter here.
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 9, "text.parse_math": False}):
        # Not pyplot: it would register the figure, and change the user's own backend.
        figure = Figure(figsize=(3.4 * across, 2.2 * down), layout="constrained")
        for position, panel in enumerate(shown, start=1):
            _draw(panel, figure.add_subplot(down, across, position))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _draw(panel: Panel, axes: object) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import NullFormatter

    assert isinstance(axes, Axes)  # noqa: S101  (matplotlib's own type is loaded with it only)
    for number, (label, curve) in enumerate(panel.curves.items()):
        kept = thinned(curve.values, _POINTS)
        axes.plot(
            [curve.steps[i] for i in kept],
            [curve.values[i] for i in kept],
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=_DASHES[number % len(_DASHES)],
            lw=1.4,
            marker="o" if len(kept) < 3 else None,
            label=display.clean(label)[:40],
        )
    if spans_decades(value for curve in panel.curves.values() for value in curve.values):
        axes.set_yscale("log")
        # Its own labels are formulas, which are text here.
        axes.yaxis.set_major_formatter(lambda value, _: display.number(value))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if len(panel.curves) > 1:
        axes.legend(frameon=False, labelcolor=_INK, fontsize=8)
    axes.set_title(_title(panel), color=_INK, fontsize=10)
    axes.set_xlabel(panel.across, color=_INK)
    axes.set_facecolor("none")
    axes.tick_params(which="both", colors=_INK)
    axes.grid(color=_INK, alpha=0.2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)


def _title(panel: Panel) -> str:
    """A line ends where its values are no numbers, which has to be said."""
    shown = display.clean(panel.title)[:40]
    last = next((c.last for c in panel.curves.values() if not math.isfinite(c.last)), None)
    return shown if last is None else f"{shown} ({display.number(last)})"
