"""Runs side by side: what was done otherwise, and what came of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import display, plot
from aiaas_magics.curves import Curves, falls
from aiaas_magics.display import Rich
from aiaas_magics.run import Run

MOST_RUNS = 10
_POINTS = 500
_MOST_DIFF_LINES = 400

_ADDED = "color:var(--jp-success-color1,#2e9e4f)"
_REMOVED = "color:var(--jp-error-color1,#d64545)"
_PLACE = "color:var(--jp-info-color1,#3b82d0)"

Row = tuple[str, list[str]]
"""What is compared, and each run's value."""


class Comparison(Rich):
    """Some runs, the first of which is what the others' code is compared with."""

    def __init__(self, records: Sequence[wire.Run], curves: Sequence[Curves]) -> None:
        self.runs = list(records)
        self._labels = _labels(self.runs)
        self.curves = dict(zip(self._labels, curves, strict=True))

    @property
    def params(self) -> dict[str, list[object]]:
        """Parameter → its value in each run (None where it has none), differing ones first."""
        names = dict.fromkeys(name for run in self.runs for name in run.params)
        values: dict[str, list[object]] = {
            name: [run.params.get(name) for run in self.runs] for name in names
        }
        return dict(sorted(values.items(), key=lambda item: _all_alike(item[1])))

    @property
    def metrics(self) -> dict[str, list[float | None]]:
        """Metric → its last value in each run, None where it was not reported."""
        names = dict.fromkeys(name for curves in self.curves.values() for name in curves)
        return {
            name: [curves[name].last if name in curves else None for curves in self.curves.values()]
            for name in names
        }

    def code(self) -> str:
        """A unified diff of the first run's code and each other one's; empty where alike."""
        first = self.runs[0]
        parts: list[str] = []
        for label, run in zip(self._labels[1:], self.runs[1:], strict=True):
            lines = difflib.unified_diff(
                first.snapshot.source.splitlines(),
                run.snapshot.source.splitlines(),
                self._labels[0],
                label,
                lineterm="",
            )
            parts.extend(lines)
        return "\n".join(parts)

    def _sections(self) -> list[tuple[str, list[Row]]]:
        params = [
            (f"{'' if _all_alike(values) else '* '}{name}", [_value(value) for value in values])
            for name, values in self.params.items()
        ]
        return [
            ("run", [(title, [of(run) for run in self.runs]) for title, of in _FACTS]),
            ("parameters", params),
            ("metrics: last (best)", self._metric_rows()),
        ]

    def _metric_rows(self) -> list[Row]:
        rows = []
        for name, lasts in self.metrics.items():
            cells = []
            for curves, last in zip(self.curves.values(), lasts, strict=True):
                best = curves[name].best(lowest=falls(name)) if last is not None else None
                shown = "" if last is None else display.number(last)
                cells.append(f"{shown} ({display.number(best[0])})" if best else shown)
            rows.append((name, cells))
        return rows

    def _code_said(self) -> str:
        if self.code():
            return ""
        alike = len({run.snapshot.digest for run in self.runs}) == 1
        return "The code is the same." if alike else "The code as typed is the same; files differ."

    def _html(self) -> str:
        titles = ["", *self._labels]
        parts = []
        for title, rows in self._sections():
            if not rows:
                continue
            cells = [
                [display.escape(name), *(_marked(values))] for name, values in rows if any(values)
            ]
            parts.append(_heading(title) + display.table(titles, cells))
        picture = plot.html(plot.overlaid(self.curves))
        parts.append(f"<div>{picture}</div>")
        said = self._code_said()
        parts.append(f"<div>{display.muted(said)}</div>" if said else _diff_html(self.code()))
        return f'<div style="max-width:80em">{"".join(parts)}</div>'

    def _text(self) -> str:
        titles = ["", *self._labels]
        parts = []
        for title, rows in self._sections():
            if rows:
                cells = [[display.clean(v) for v in (name, *values)] for name, values in rows]
                parts.append(f"{title}\n{display.text_table(titles, cells)}")
        parts.append(plot.text(plot.overlaid(self.curves)))
        parts.append(self._code_said() or _cut(self.code()))
        return "\n\n".join(part for part in parts if part)


def compare(runs: Sequence[Run]) -> Comparison:
    """Raises `InvalidInput` for fewer than two runs, more than `MOST_RUNS`, or one twice."""
    if not 2 <= len(runs) <= MOST_RUNS:
        raise InvalidInput(
            f"{len(runs)} {'run is' if len(runs) == 1 else 'runs are'} not compared.",
            remedy=f"Name 2 to {MOST_RUNS} of them; '%aiaas runs' lists their ids.",
        )
    if len({run.id for run in runs}) < len(runs):
        raise InvalidInput("A run is named twice.", remedy="Name each of them once.")
    curves = [Curves(run._client.runs.metrics(run.id, points=_POINTS).points) for run in runs]
    return Comparison([run.refresh() for run in runs], curves)


def _labels(runs: Sequence[wire.Run]) -> list[str]:
    """Names where they tell the runs apart, ids else."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [run.id for run in runs]


def _resources(run: wire.Run) -> str:
    asked = run.resources
    gpus = f", {asked.gpus_per_worker:g} GPU each" if asked.gpus_per_worker else ""
    workers = f"{asked.workers} worker{'s' if asked.workers != 1 else ''}"
    return f"{workers}, {asked.cpus_per_worker:g} CPU each{gpus}"


def _trained(run: wire.Run) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return display.duration((run.finished_at - run.started_at).total_seconds())


_FACTS: list[tuple[str, Callable[[wire.Run], str]]] = [
    ("id", lambda run: run.id),
    ("state", lambda run: str(run.state)),
    ("submitted", lambda run: f"{run.created_at:%Y-%m-%d %H:%M}"),
    ("trained for", _trained),
    ("resources", _resources),
    ("datasets", lambda run: ", ".join(map(str, run.datasets))),
    ("code", lambda run: run.snapshot.digest[:12]),
    ("resumed from", lambda run: run.resumed_from or ""),
    ("model", lambda run: str(run.model) if run.model else ""),
    ("error", lambda run: run.error.message if run.error else ""),
]


def _all_alike(values: Sequence[object]) -> bool:
    # By text: True, 1 and 1.0 are equal, and different parameters.
    return len({repr(value) for value in values}) == 1


def _value(value: object) -> str:
    return "" if value is None else str(value)


def _marked(values: Sequence[str]) -> list[str]:
    """Cells of a row; those unlike the first run's stand out."""
    first = values[0]
    return [
        display.escape(value) if value == first else f"<b>{display.escape(value)}</b>"
        for value in values
    ]


def _diff_html(diff: str) -> str:
    styles: Mapping[str, str] = {"+": _ADDED, "-": _REMOVED, "@": _PLACE}
    lines = [
        f'<span style="{styles[line[0]]}">{display.escape(line)}</span>'
        if line[:1] in styles
        else display.escape(line)
        for line in _cut(diff).split("\n")
    ]
    return _heading("code") + display.pre_html("\n".join(lines), limit="30em")


def _heading(title: str) -> str:
    return f'<div style="margin-top:8px"><b>{display.escape(title)}</b></div>'


def _cut(diff: str) -> str:
    lines = diff.split("\n")
    if len(lines) <= _MOST_DIFF_LINES:
        return diff
    rest = len(lines) - _MOST_DIFF_LINES
    return "\n".join([*lines[:_MOST_DIFF_LINES], f"… {rest:,} more lines: print(_.code())"])
