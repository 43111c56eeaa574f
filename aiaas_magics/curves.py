"""Metrics as curves: values over steps, few enough to be kept and drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from aiaas_hub.schemas.runs import MetricPoint

MOST_POINTS = 2000
"""Kept of each metric: several times what a plot of a few hundred pixels can show."""
MOST_CURVES = 60
_COUNTS = "confusion/"
"""What recipes call the counts of a table: one point each, and no curve."""

_FIRST = ("loss", "accuracy")
_PHASE = re.compile(
    r"^(?:(?P<before>train|training|val|valid|validation|eval|test)[_/.-](?P<tail>.+)"
    r"|(?P<head>.+)[_/.-](?P<after>train|training|val|valid|validation|eval|test))$"
)
_FALLS = re.compile(
    r"loss|error|perplexity|ppl|(?:^|_)(?:mse|mae|rmse|mape|nll|bce|wer|cer)(?:_|$)", re.IGNORECASE
)


@dataclass
class Curve:
    """One metric. `lowest` and `highest` are true, however many points are kept."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Seconds since the epoch."""

    def add(self, step: int, value: float, time: float) -> None:
        self.steps.append(step)
        self.values.append(value)
        self.times.append(time)
        if len(self.values) > MOST_POINTS:
            kept = thinned(self.values, MOST_POINTS // 2)
            self.steps = [self.steps[i] for i in kept]
            self.values = [self.values[i] for i in kept]
            self.times = [self.times[i] for i in kept]

    @property
    def last(self) -> float:
        return self.values[-1]

    def best(self, *, lowest: bool) -> tuple[float, int] | None:
        """The best finite value and its step; None where there is none."""
        pairs = [
            (value, step)
            for value, step in zip(self.values, self.steps, strict=True)
            if math.isfinite(value)
        ]
        if not pairs:
            return None
        return min(pairs) if lowest else max(pairs, key=lambda pair: (pair[0], -pair[1]))


class Curves:
    """A run's metrics by name, loss and accuracy first."""

    def __init__(self, points: Iterable[MetricPoint] = ()) -> None:
        self._curves: dict[str, Curve] = {}
        self.add(points)

    def add(self, points: Iterable[MetricPoint]) -> None:
        for point in points:
            for name, value in point.values.items():
                if name.startswith(_COUNTS):
                    continue
                curve = self._curves.get(name)
                if curve is None:
                    if len(self._curves) >= MOST_CURVES:
                        continue
                    curve = self._curves[name] = Curve()
                curve.add(point.step, value, point.time)

    def __bool__(self) -> bool:
        return bool(self._curves)

    def __getitem__(self, name: str) -> Curve:
        return self._curves[name]

    def __contains__(self, name: object) -> bool:
        return name in self._curves

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._curves, key=lambda name: (_rank(name), name)))

    def items(self) -> Iterator[tuple[str, Curve]]:
        return ((name, self._curves[name]) for name in self)

    def seconds_per_step(self) -> float | None:
        """Of the steps made of late; None until two steps are known."""
        curve = max(self._curves.values(), key=lambda curve: curve.times[-1], default=None)
        if curve is None:
            return None
        early = -max(2, len(curve.steps) // 4)
        steps = curve.steps[-1] - curve.steps[max(early, -len(curve.steps))]
        seconds = curve.times[-1] - curve.times[max(early, -len(curve.times))]
        return seconds / steps if steps > 0 and seconds > 0 else None


def phase(name: str) -> tuple[str, str]:
    """What is measured and on which data: `val_loss` is the loss on `val`, `loss` on none."""
    found = _PHASE.match(name)
    if found is None:
        return name, ""
    return (found["tail"] or found["head"]), (found["before"] or found["after"])


def falls(name: str) -> bool:
    """Whether a metric of this name is better the lower it is."""
    return _FALLS.search(name) is not None


def spans_decades(values: Iterable[float]) -> bool:
    """Whether only a logarithmic axis shows all of these values."""
    finite = [value for value in values if math.isfinite(value)]
    return len(finite) > 2 and min(finite) > 0 and max(finite) / min(finite) >= 100


def thinned(values: Sequence[float], most: int) -> list[int]:
    """Positions of about `most` values: each stretch's lowest and highest, every first value that
    is no number, and the last."""
    count = len(values)
    if count <= most:
        return list(range(count))
    width = -(-count * 2 // most)
    kept: set[int] = {0, count - 1}
    for start in range(0, count, width):
        stretch = range(start, min(start + width, count))
        finite = [i for i in stretch if math.isfinite(values[i])]
        if len(finite) < len(stretch):
            kept.add(next(i for i in stretch if not math.isfinite(values[i])))
        if finite:
            kept.add(min(finite, key=values.__getitem__))
            kept.add(max(finite, key=values.__getitem__))
    return sorted(kept)


def _rank(name: str) -> int:
    measured = phase(name)[0]
    return _FIRST.index(measured) if measured in _FIRST else len(_FIRST)
