"""What a run has reported: a plot and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiaas_magics import display, plot
from aiaas_magics.display import Rich

if TYPE_CHECKING:
    import pandas as pd

    from aiaas_magics.run import Run

_SHOWN = 8


class RunMetrics(Rich):
    """The metrics of a run as of now; `.to_pandas()` is all of them."""

    def __init__(self, run: Run) -> None:
        self._title = f"{run.name} · {run.id}"
        self.points = run._points()

    def to_pandas(self) -> pd.DataFrame:
        """One row for each report: `step`, `time` (seconds since the epoch) and the values."""
        import pandas as pd

        rows = [{"step": p.step, "time": p.time, **p.values} for p in self.points]
        return pd.DataFrame(rows, columns=None if rows else ["step", "time"])

    @property
    def _caption(self) -> str:
        if not self.points:
            return f"{self._title} has reported nothing yet: ctx.report(step=…, loss=…) does."
        shown = min(_SHOWN, len(self.points))
        return f"{self._title}: the last {shown} of {len(self.points):,} reports"

    def _last(self) -> tuple[list[str], list[list[str]]]:
        names = list(plot.series(self.points))
        rows = [
            [f"{p.step:,}", *(display.number(p.values[n]) if n in p.values else "" for n in names)]
            for p in self.points[-_SHOWN:]
        ]
        return ["step", *names], rows

    def _html(self) -> str:
        titles, rows = self._last()
        rows = [[display.escape(value) for value in row] for row in rows]
        table = display.table(titles, rows) if rows else ""
        return f"{display.muted(self._caption)}<div>{plot.html(self.points)}</div>{table}"

    def _text(self) -> str:
        titles, rows = self._last()
        table = display.text_table([display.clean(t) for t in titles], rows) if rows else ""
        return "\n".join(part for part in (self._caption, plot.text(self.points), table) if part)
