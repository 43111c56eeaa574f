"""Two versions of an endpoint side by side, on rows of the notebook's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas import agreement
from aiaas_hub.schemas.endpoints import MAX_BATCH
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import display
from aiaas_magics.display import Rich

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]
    Predict = Callable[[int, Any], Arrays]

_SINGLE_CALLS = 25
_BATCH_CALLS = 5
_SHOWN = 5
_MOST_SLICES = 20
_BINS = 4
"""A column of many different numbers is cut into so many parts of equal size."""


@dataclass(frozen=True)
class Difference:
    """A row that the two versions answer differently."""

    row: int
    first: Any
    second: Any
    """The chosen class, by its label where the model has labels, or the values."""
    distance: float
    """Largest absolute difference between the two outputs."""


@dataclass(frozen=True)
class Slice:
    """Rows that have a value of the column in common."""

    value: str
    rows: int
    agreement: float
    mean_distance: float


@dataclass(frozen=True)
class Latency:
    """Of calls through the gateway from this notebook, in milliseconds."""

    rows: int
    p50_ms: float
    p95_ms: float


class VersionComparison(Rich):
    """What two versions answer to the same rows.

    `.agreement` is the share of rows answered alike: the same class where the output is
    `[batch, classes]`, equal integers, other numbers within a tenth of their standard deviation.
    """

    def __init__(
        self,
        endpoint: str,
        versions: tuple[int, int],
        output: str,
        answers: tuple[NDArray[Any], NDArray[Any]],
        labels: Sequence[str] | None,
        groups: tuple[str, Sequence[Any]] | None,
        latency: dict[int, list[Latency]],
    ) -> None:
        import numpy as np

        self.endpoint = endpoint
        self.versions = versions
        self.output = output
        self.first, self.second = answers
        """What each answered, `[batch, …]`."""
        self.latency = latency
        self.same = agreement.alike(self.first, self.second)
        """Per row, whether they answered alike."""
        self.agreement = float(self.same.mean())
        self.rows = len(self.same)
        a, b = (array.astype(np.float64).reshape(self.rows, -1) for array in answers)
        gaps = np.abs(a - b)
        # Where both are not a number nothing differs; where one is, everything does.
        gaps[np.isnan(a) & np.isnan(b)] = 0.0
        self.distance = np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(axis=1)
        """Per row, the largest absolute difference."""
        self._labels = labels
        self.by = groups[0] if groups else None
        self.slices = _slices(self, groups[1]) if groups else []

    @property
    def largest(self) -> list[Difference]:
        """The rows that differ most, those answered differently first."""
        import numpy as np

        order = np.lexsort((-self.distance, self.same))
        return [
            Difference(
                int(row),
                self._said(self.first, row),
                self._said(self.second, row),
                float(self.distance[row]),
            )
            for row in order[:_SHOWN]
            if self.distance[row] > 0
        ]

    def _said(self, answers: NDArray[Any], row: int) -> Any:
        if not agreement.is_choice(answers):
            return answers[row].tolist()
        chosen = int(answers[row].argmax())
        if self._labels is None or chosen >= len(self._labels):
            return chosen
        return self._labels[chosen]

    def _facts(self) -> list[tuple[str, str]]:
        first, second = self.versions
        alike = int(self.same.sum())
        return [
            ("agreement", f"{self.agreement:.1%}: {alike} of {self.rows} rows answered alike"),
            ("output", self.output),
            ("largest", f"{display.number(float(self.distance.max()))} apart"),
            *(
                (
                    f"latency, {one.rows} row{'' if one.rows == 1 else 's'}",
                    f"version {first}: p50 {one.p50_ms:.2f} ms, p95 {one.p95_ms:.2f} ms · "
                    f"version {second}: p50 {two.p50_ms:.2f} ms, p95 {two.p95_ms:.2f} ms",
                )
                for one, two in zip(self.latency[first], self.latency[second], strict=True)
            ),
        ]

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        first, second = self.versions
        found = []
        if self.largest:
            rows = [
                [str(d.row), _short(d.first), _short(d.second), display.number(d.distance)]
                for d in self.largest
            ]
            titles = ["row", f"version {first}", f"version {second}", "apart"]
            found.append(("largest differences", titles, rows))
        if self.slices:
            rows = [
                [s.value, str(s.rows), f"{s.agreement:.1%}", display.number(s.mean_distance)]
                for s in self.slices[:_MOST_SLICES]
            ]
            found.append((f"by {self.by}", [str(self.by), "rows", "alike", "mean apart"], rows))
        return found

    @property
    def _title(self) -> str:
        return f"{self.endpoint}: version {self.versions[0]} and version {self.versions[1]}"

    def _html(self) -> str:
        tables = [
            f"<div>{display.muted(title)}</div>"
            + display.table(titles, [[display.escape(cell) for cell in row] for row in rows])
            for title, titles, rows in self._tables()
        ]
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        return display.card(self._title, None, facts, *tables)

    def _text(self) -> str:
        parts = [display.text_card(self._title, None, self._facts())]
        for title, titles, rows in self._tables():
            parts += [title, display.text_table(titles, rows)]
        return "\n".join(parts)


def compare(
    endpoint: str,
    versions: tuple[int, int],
    predict: Predict,
    x: Any,
    by: Any,
    labels: Sequence[str] | None,
) -> VersionComparison:
    """Ask both versions for the same rows. Raises `InvalidInput` where they have no output in one
    form, or `by` does not fit the rows."""
    if versions[0] == versions[1]:
        raise InvalidInput("These are one version.", remedy="Give two versions of the endpoint.")
    rows, groups = _grouped(x, by)
    answers = {version: predict(version, rows) for version in versions}
    first, second = answers[versions[0]], answers[versions[1]]
    output = agreement.judged_output(first, second)
    if output is None:
        raise InvalidInput(
            f"Versions {versions[0]} and {versions[1]} have no output of one name and shape: "
            f"{', '.join(first)} and {', '.join(second)}.",
            remedy="Call each with Endpoint.predict(x, version=V) and compare the arrays.",
        )
    if groups is not None and len(groups[1]) != len(first[output]):
        raise InvalidInput(
            f"'by' has {len(groups[1])} values for {len(first[output])} rows.",
            remedy="Give one value for each row.",
        )
    return VersionComparison(
        endpoint,
        versions,
        output,
        (first[output], second[output]),
        labels,
        groups,
        _latencies(versions, predict, rows),
    )


def _grouped(x: Any, by: Any) -> tuple[Any, tuple[str, Sequence[Any]] | None]:
    """The model's rows, and the column that they are told apart by."""
    if by is None:
        return x, None
    if not isinstance(by, str):
        return x, (str(getattr(by, "name", None) or "by"), list(by))
    if not hasattr(x, "columns") or by not in x.columns:
        raise InvalidInput(
            f"The rows have no column {by!r}.",
            remedy="Give a DataFrame that has it, or an array with a value for each row as by=….",
        )
    return x.drop(columns=[by]), (by, x[by].tolist())


def _slices(comparison: VersionComparison, values: Sequence[Any]) -> list[Slice]:
    """Rows by the column's value, the most in disagreement first."""
    import numpy as np

    keys = np.array(_binned(values), dtype=object)
    found = []
    for key in dict.fromkeys(keys.tolist()):
        mine = keys == key
        found.append(
            Slice(
                str(key),
                int(mine.sum()),
                float(comparison.same[mine].mean()),
                float(comparison.distance[mine].mean()),
            )
        )
    return sorted(found, key=lambda one: (one.agreement, -one.mean_distance))


def _binned(values: Sequence[Any]) -> list[str]:
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or len(set(array.tolist())) <= 2 * _BINS:
        return [str(value) for value in values]
    edges = np.unique(np.nanquantile(array, np.linspace(0, 1, _BINS + 1)))
    places = np.clip(np.searchsorted(edges, array, side="right") - 1, 0, len(edges) - 2)
    return [
        "not a number" if math.isnan(value) else f"{edges[place]:.4g} to {edges[place + 1]:.4g}"
        for place, value in zip(places.tolist(), array.tolist(), strict=True)
    ]


def _latencies(versions: tuple[int, int], predict: Predict, x: Any) -> dict[int, list[Latency]]:
    """Of one row and of a batch, the versions taking turns so that both meet the same weather."""
    found: dict[int, list[Latency]] = {version: [] for version in versions}
    for calls, most in ((_SINGLE_CALLS, 1), (_BATCH_CALLS, MAX_BATCH)):
        part = _first(x, most)
        seconds: dict[int, list[float]] = {version: [] for version in versions}
        for _ in range(calls):
            for version in versions:
                began = time.perf_counter()
                predict(version, part)
                seconds[version].append(time.perf_counter() - began)
        for version in versions:
            found[version].append(_latency(_count(part), seconds[version]))
    return found


def _latency(rows: int, seconds: Sequence[float]) -> Latency:
    import numpy as np

    p50, p95 = (float(np.percentile(seconds, share)) * 1000 for share in (50, 95))
    return Latency(rows, p50, p95)


def _first(x: Any, rows: int) -> Any:
    return {name: value[:rows] for name, value in x.items()} if isinstance(x, dict) else x[:rows]


def _count(x: Any) -> int:
    return len(next(iter(x.values()))) if isinstance(x, dict) else len(x)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
