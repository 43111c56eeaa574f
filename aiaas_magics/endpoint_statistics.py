"""What an endpoint's versions do: a table, and curves of the last hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiaas_hub.schemas import statistics as wire
from aiaas_magics import display, plot
from aiaas_magics.curves import Curve
from aiaas_magics.display import Column, Listing, Rich
from aiaas_magics.plot import Panel


class Statistics(Rich):
    """Counts and latencies per loaded version, newest first, as of when it was asked for."""

    def __init__(self, endpoint: str, record: wire.EndpointStatistics) -> None:
        self._endpoint = endpoint
        self.versions = record.versions

    def _table(self) -> Listing[wire.VersionStatistics]:
        return Listing(self.versions, _COLUMNS, empty="Nothing is served.")

    def _panels(self) -> list[Panel]:
        """Curves over the seconds until now; what has less than two points makes none."""
        panels = []
        for title, of in _MEASURED.items():
            curves = {
                f"version {version.version}": curve
                for version in self.versions
                if (curve := _curve(version.samples, of)) is not None
            }
            if curves:
                panels.append(Panel(title, curves, "seconds before the last look"))
        batches = {
            f"version {version.version}": Curve(
                list(version.batch_sizes),
                [float(count) for count in version.batch_sizes.values()],
                [0.0] * len(version.batch_sizes),
            )
            for version in self.versions
            if len(version.batch_sizes) > 1
        }
        return [
            *panels,
            *([Panel("runs of the model", batches, "rows in a batch")] if batches else []),
        ]

    def _html(self) -> str:
        panels = self._panels()
        return self._table()._html() + plot.html(panels, most=len(panels))

    def _text(self) -> str:
        return "\n".join(
            part for part in (self._table()._text(), plot.text(self._panels())) if part
        )


def _curve(
    samples: Sequence[wire.Sample], of: Callable[[wire.Sample], float | None]
) -> Curve | None:
    curve = Curve()
    for sample in samples:
        value = of(sample)
        if value is not None:
            before = round((sample.at - samples[-1].at).total_seconds())
            curve.add(before, value, sample.at.timestamp())
    return curve if len(curve.values) > 1 else None


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ms"


def _batches(version: wire.VersionStatistics) -> str:
    runs = sum(version.batch_sizes.values())
    if not runs:
        return ""
    mean = sum(size * count for size, count in version.batch_sizes.items()) / runs
    return f"{mean:.1f} of at most {max(version.batch_sizes)}"


def _health(version: wire.VersionStatistics) -> str:
    if version.healthy is None or version.checked_at is None:
        return "not asked yet"
    told = "answers" if version.healthy else version.fault or "does not answer"
    return f"{told.rstrip('.')}, {display.ago(version.checked_at)}"


_MEASURED: dict[str, Callable[[wire.Sample], float | None]] = {
    "requests per second": lambda sample: sample.requests_per_second,
    "errors per second": lambda sample: sample.errors_per_second,
    "p50 in ms": lambda sample: sample.p50_ms,
    "p95 in ms": lambda sample: sample.p95_ms,
    "p99 in ms": lambda sample: sample.p99_ms,
    "ms in the queue": lambda sample: sample.queue_ms,
}
_COLUMNS: list[Column[wire.VersionStatistics]] = [
    Column("version", lambda v: v.version),
    Column("share", lambda v: f"copy of {v.mirrored} %" if v.mirrored else f"{v.percent} %"),
    Column("canary inference", _health),
    Column("requests", lambda v: v.requests),
    Column("errors", lambda v: v.errors),
    Column("refused", lambda v: v.refused),
    Column("p50", lambda v: _ms(v.p50_ms)),
    Column("p95", lambda v: _ms(v.p95_ms)),
    Column("p99", lambda v: _ms(v.p99_ms)),
    Column("rows per run", _batches),
    Column("queue", lambda v: _ms(v.queue_ms)),
    Column("compute", lambda v: _ms(v.compute_ms)),
]
