"""Curves with few points that look as those with all of them.

M4 (Jugel, Jerzak, Hackenbroich, Markl: "M4: A Visualization-Oriented Time Series Data
Aggregation", PVLDB 7(10), 2014): of each group of points keep the first, the last, the smallest
and the largest. A line drawn through these has the same pixels as one drawn through all, where a
group is not wider than a pixel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aiaas_hub.schemas.runs import MetricPoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Positions = NDArray[np.intp]

_KEPT_OF_EACH = 4


class Curve(NamedTuple):
    """One metric's points in the order of their reports; four arrays of the same length."""

    positions: Positions
    """Where each stands among all points of the run."""
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    """Seconds since the epoch."""
    values: NDArray[np.float64]
    """NaN and infinities included."""


def downsample(curves: Mapping[str, Curve], points: int) -> list[MetricPoint]:
    """At most `points` (≥ 4) of each metric, in order. A point holds only the metrics for which
    it was chosen."""
    chosen: dict[tuple[int, int, float], dict[str, float]] = defaultdict(dict)
    for name, curve in curves.items():
        kept = choose(curve.values, points)
        for position, step, time, value in zip(
            curve.positions[kept].tolist(),
            curve.steps[kept].tolist(),
            curve.times[kept].tolist(),
            curve.values[kept].tolist(),
            strict=True,
        ):
            chosen[position, step, time][name] = value
    return [
        MetricPoint(step=step, time=time, values=chosen[position, step, time])
        for position, step, time in sorted(chosen)
    ]


def choose(values: NDArray[np.float64], points: int) -> Positions:
    """Positions of the at most `points` values to keep, ascending; all where that is enough."""
    if len(values) <= points:
        return np.arange(len(values))
    groups = max(points // _KEPT_OF_EACH, 1)
    starts = np.linspace(0, len(values), groups, endpoint=False).astype(np.intp)
    ends = np.append(starts[1:], len(values))
    kept = [starts, ends - 1]
    # NaN is neither the smallest nor the largest: it would hide the real ones.
    missing = np.isnan(values)
    for worst, extreme in ((np.inf, np.argmin), (-np.inf, np.argmax)):
        known = np.where(missing, worst, values)
        kept.append(np.array([s + extreme(known[s:e]) for s, e in zip(starts, ends, strict=True)]))
    return np.unique(np.concatenate(kept))
