"""Trials as lines through their parameters to their metric, the best one in front."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiaas_magics import display

if TYPE_CHECKING:
    from aiaas_hub.schemas.runs import ParamValue

# Mid-tones with enough contrast on white and on JupyterLab's dark grey alike.
_INK = "#8a8a8a"
_BEST = "#d9822b"
_SCALE = "viridis"
_MOST_AXES = 8
_MOST_LINES = 300


@dataclass(frozen=True)
class Line:
    """One trial."""

    params: Mapping[str, ParamValue]
    value: float
    best: bool = False


@dataclass(frozen=True)
class Axis:
    """Where the values of a parameter lie, 0 at the bottom to 1 at the top, and what to write."""

    name: str
    places: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def html(lines: Sequence[Line], metric: str, mode: str, logarithmic: Sequence[str] = ()) -> str:
    """The trials as one image; empty for fewer than two, or where matplotlib is missing."""
    if len(lines) < 2:
        return ""
    shown = list(lines[-_MOST_LINES:])
    best = next((line for line in lines if line.best), None)
    if best is not None and best not in shown:
        shown[0] = best
    names = list(shown[0].params)[:_MOST_AXES]
    found = [
        axis(name, [line.params.get(name) for line in shown], name in logarithmic) for name in names
    ]
    found.append(axis(metric, [line.value for line in shown], logarithmic=False))
    try:
        picture = base64.b64encode(_svg(shown, found, mode)).decode()
    except ImportError:
        return ""
    label = display.escape(f"{', '.join(names)} and {metric} of {len(shown)} trials")
    # As an image it needs no trust: a notebook opened again still shows it.
    return f'<img alt="{label}" style="max-width:100%" src="data:image/svg+xml;base64,{picture}">'


def axis(name: str, values: Sequence[ParamValue], logarithmic: bool) -> Axis:
    """Numbers by their size, anything else evenly in the order of its first appearance."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or any(isinstance(value, bool) for value in values):
        words = list(dict.fromkeys(str(value) for value in values))
        place = {word: (i + 0.5) / len(words) for i, word in enumerate(words)}
        return Axis(
            name,
            [place[str(value)] for value in values],
            [(place[word], display.clean(word)[:20]) for word in words],
        )
    scaled = [math.log10(n) if logarithmic and n > 0 else float(n) for n in numbers]
    low, high = min(scaled), max(scaled)
    width = (high - low) or 1.0
    # All the same: in the middle.
    places = [(n - low) / width if high > low else 0.5 for n in scaled]
    ends = sorted(zip(places, numbers, strict=True))
    ticks = dict([ends[0], ends[-1]])
    return Axis(name, places, [(place, display.number(n)) for place, n in ticks.items()])


def _svg(lines: Sequence[Line], axes: Sequence[Axis], mode: str) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text: smaller, and drawn in the reader's own font. `$` is a letter here.
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 9, "text.parse_math": False}):
        # Not pyplot: it would register the figure, and change the user's own backend.
        figure = Figure(figsize=(min(1.6 * len(axes) + 1, 11), 2.6), layout="constrained")
        drawn = figure.add_subplot()
        colours = mpl.colormaps[_SCALE]
        good = axes[-1].places if mode == "max" else [1 - place for place in axes[-1].places]
        order = sorted(range(len(lines)), key=lambda i: (lines[i].best, good[i]))
        for i in order:
            drawn.plot(
                range(len(axes)),
                [one.places[i] for one in axes],
                color=_BEST if lines[i].best else colours(0.15 + 0.7 * good[i]),
                lw=2.4 if lines[i].best else 1.0,
                alpha=1.0 if lines[i].best else 0.6,
                marker="o",
                ms=3,
            )
        for position, one in enumerate(axes):
            drawn.axvline(position, color=_INK, lw=0.8)
            for place, words in one.ticks:
                drawn.annotate(
                    words,
                    (position, place),
                    xytext=(4, 3),
                    textcoords="offset points",
                    color=_INK,
                    va="bottom",
                    fontsize=8,
                )
        drawn.set_xticks(range(len(axes)), [display.clean(one.name)[:24] for one in axes])
        drawn.tick_params(axis="x", colors=_INK, length=0)
        drawn.set_yticks([])
        drawn.set_ylim(-0.08, 1.08)
        drawn.set_xlim(-0.1, len(axes) - 0.6)
        drawn.set_facecolor("none")
        for spine in drawn.spines.values():
            spine.set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
