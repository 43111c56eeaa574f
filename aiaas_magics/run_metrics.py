"""What a run has reported: a plot and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiaas_magics import display, plot
from aiaas_magics.curves import Curves, falls
from aiaas_magics.display import Rich

if TYPE_CHECKING:
    import pandas as pd

    from aiaas_hub.schemas.runs import MetricPoint
    from aiaas_magics.run import Run

_POINTS = 1000


class RunMetrics(Rich):
    """The metrics of a run as of now; `.to_pandas()` is all of them.

    A display of a million reports costs what one of a thousand does: the service thins them.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._title = f"{run.name} · {run.id}"
        metrics = run._client.runs.metrics(run.id, points=_POINTS)
        self._count = len(metrics.points) if metrics.total is None else metrics.total
        self.curves = Curves(metrics.points)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each report: `step`, `time` (seconds since the epoch) and the values."""
        return table(self._run._points())

    @property
    def _caption(self) -> str:
        if not self.curves:
            return f"{self._title} has reported nothing yet: ctx.report(step=…, loss=…) does."
        return f"{self._title}: {self._count:,} reports"

    def _rows(self) -> list[list[str]]:
        rows = []
        for name, curve in self.curves.items():
            best = curve.best(lowest=falls(name))
            rows.append(
                [
                    name,
                    display.number(curve.values[0]),
                    f"{display.number(curve.last)} at step {curve.steps[-1]:,}",
                    f"{display.number(best[0])} at step {best[1]:,}" if best else "none",
                ]
            )
        return rows

    def _html(self) -> str:
        rows = [[display.escape(value) for value in row] for row in self._rows()]
        summary = display.table(_TITLES, rows) if rows else ""
        picture = plot.html(plot.panels(self.curves))
        return f"{display.muted(self._caption)}<div>{picture}</div>{summary}"

    def _text(self) -> str:
        rows = [[display.clean(value) for value in row] for row in self._rows()]
        summary = display.text_table(_TITLES, rows) if rows else ""
        parts = (self._caption, plot.text(plot.panels(self.curves)), summary)
        return "\n".join(part for part in parts if part)


def table(points: Sequence[MetricPoint]) -> pd.DataFrame:
    """One row for each report: `step`, `time` (seconds since the epoch) and the values."""
    import pandas as pd

    rows = [{"step": p.step, "time": p.time, **p.values} for p in points]
    return pd.DataFrame(rows, columns=None if rows else ["step", "time"])


_TITLES = ["metric", "first", "last", "best"]
