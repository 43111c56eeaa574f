"""`aiaas.sweep` and the `Sweep` that it gives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import display, parallel_coordinates, snapshot, space
from aiaas_magics.display import Column, Listing
from aiaas_magics.parallel_coordinates import Line
from aiaas_magics.request import Request, of_function
from aiaas_magics.run import Run
from aiaas_magics.run_view import RunView

if TYPE_CHECKING:
    import pandas as pd

    from aiaas_magics.client import Client
    from aiaas_magics.dataset import Dataset
    from aiaas_magics.model import Model

_FRESH_SECONDS = 2.0
_SHOWN = 15
"""Rows of the table: the best ones, and those that run."""


class Sweep(Run):
    """A run that tries parameters; each of its trials is a run as well."""

    def __init__(self, client: Client, record: wire.Run) -> None:
        super().__init__(client, record)
        self._trials = Trials(client, record)

    @property
    def metric(self) -> str:
        return self._spec.metric

    @property
    def best(self) -> Run | None:
        """The trial with the best last value of the metric by now; None while there is none.

        A trial that failed is never it, one that was stopped early may be.
        """
        record = self._trials.refresh().best
        return None if record is None else Run(self._client, record)

    @property
    def model(self) -> Model | None:
        """The best trial's model, if it has handed one over."""
        best = self.best
        return None if best is None else best.model

    def trials(self) -> Listing[Run]:
        """All trials, the best first."""
        found = self._trials.refresh()
        runs = [Run(self._client, record) for record in found.ranked()]
        best = found.best
        return Listing(
            runs,
            [
                Column("trial", lambda r: _number(r._record)),
                Column("run", lambda r: r.id, lambda r: display.code(r.id)),
                *(Column(name, partial(_param, name)) for name in self._spec.space),
                Column(self.metric, lambda r: _metric(r._record, self._spec)),
                Column("state", lambda r: r._record.state, lambda r: _state(r._record)),
                Column("", lambda r: "best" if best and r.id == best.id else ""),
            ],
            empty="The sweep has begun no trial yet.",
        )

    def to_pandas(self) -> pd.DataFrame:
        """A row for each trial: its number and run, parameters, state, and last metrics."""
        import pandas as pd

        rows = [
            {
                "trial": record.trial,
                "run": record.id,
                "state": str(record.state),
                **record.params,
                **record.last_metrics,
            }
            for record in self._trials.refresh().by_number()
        ]
        return pd.DataFrame(rows)

    @property
    def _spec(self) -> wire.SweepSpec:
        return _spec_of(self._record)

    def view(self, worker: int | None = None) -> RunView:
        return SweepView(self._record, self._trials)

    def _facts(self) -> list[tuple[str, str]]:
        return [*_facts(self._record, self._trials.refresh()), *super()._facts()]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        return display.card(
            self._title,
            str(self._record.state),
            facts,
            *_pictures(self._spec, self._trials.refresh()),
        )

    def _text(self) -> str:
        card = display.text_card(f"Sweep {self._title}", str(self._record.state), self._facts())
        return f"{card}\n{_text_table(self._spec, self._trials.refresh())}"


class Trials:
    """A sweep's trials as of a moment ago."""

    def __init__(self, client: Client, sweep: wire.Run) -> None:
        self._client = client
        self._id = sweep.id
        self._spec = _spec_of(sweep)
        self._read_at = float("-inf")
        self._complete = False
        self.records: list[wire.Run] = []

    def refresh(self, *, over: bool = False) -> Trials:
        """Read them again unless that has just been done. With `over` for the last time."""
        if self._complete:
            return self
        if over or time.monotonic() - self._read_at > _FRESH_SECONDS:
            self.records = list(self._client.runs.trials(self._id))
            self._read_at = time.monotonic()
            self._complete = over and all(record.state.is_terminal for record in self.records)
        return self

    @property
    def best(self) -> wire.Run | None:
        ranked = self.ranked()
        return ranked[0] if ranked and _finite(ranked[0], self._spec) is not None else None

    def ranked(self) -> list[wire.Run]:
        """The best first; those without a value last."""
        sign = -1 if self._spec.mode == "max" else 1

        def place(record: wire.Run) -> tuple[bool, float, int]:
            value = _finite(record, self._spec)
            return value is None, sign * (value or 0.0), record.trial or 0

        return sorted(self.records, key=place)

    def by_number(self) -> list[wire.Run]:
        return sorted(self.records, key=lambda record: record.trial or 0)

    @property
    def over(self) -> int:
        return sum(record.state.is_terminal for record in self.records)


class SweepView(RunView):
    """A sweep while it is followed: its trials instead of metrics of its own."""

    def __init__(self, record: wire.Run, trials: Trials) -> None:
        super().__init__(record)
        self._trials = trials

    def line(self) -> str:
        record, trials = self.record, self._now()
        parts = [f"{record.name} · {record.id}: {record.state}"]
        parts += [value for _, value in _facts(record, trials)]
        return display.clean(" · ".join(part for part in parts if part))

    def html(self) -> str:
        record, trials = self.record, self._now()
        spec = _spec_of(record)
        done = trials.over / spec.trials
        bar = "" if record.state.is_terminal else display.bar(done, f"{trials.over} trials")
        facts = [(label, display.escape(value)) for label, value in _facts(record, trials)]
        facts[0] = (facts[0][0], bar + facts[0][1])
        more = [*_pictures(spec, trials), display.muted(self.trouble) if self.trouble else ""]
        if record.error is not None and record.error.traceback:
            more.append(display.pre(record.error.traceback))
        if not record.state.is_terminal and self.interruptible:
            hint = f"Interrupt to stop watching; '%aiaas cancel {record.id}' stops the sweep."
            more.append(display.muted(hint))
        return display.card(f"{record.name} · {record.id}", str(record.state), facts, *more)

    def text(self) -> str:
        table = _text_table(_spec_of(self.record), self._now())
        return "\n".join(part for part in (self.line(), self.trouble, table) if part)

    def _now(self) -> Trials:
        return self._trials.refresh(over=self.record.state.is_terminal)


def sweep(
    fn: Callable[..., object],
    *,
    params: Mapping[str, object],
    metric: str,
    trials: int | None = None,
    mode: str | None = None,
    search: str = "random",
    scheduler: str = "none",
    concurrency: int = 2,
    name: str | None = None,
    dataset: str | Dataset | Sequence[str | Dataset] | None = None,
    retries: int = 0,
    profile: str | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    priority: str = "normal",
    time_limit: str | float | None = None,
    detach: bool = False,
) -> Sweep:
    """Run `fn(ctx)` with different parameters and show which do best by `metric`.

    `params` are drawn where they say so: `"log:1e-4:1e-1"`, `"uniform:0:0.5"`, `"int:1:4"`, or a
    list to choose from; any other value stays. `search` is random, grid (all combinations) or
    bayesian (learns from the trials before); the `scheduler` asha stops trials that lag behind at
    their reports of the metric. `mode` is min or max, by the metric's name where it is one that
    everybody knows. `concurrency` trials run at the same time, each on one worker.

    Raises `RunFailed` if no trial succeeds, `InvalidInput` before anything is sent if the sweep
    cannot be meant. An interrupt leaves it alive and returns it.
    """
    fixed, drawn = space.split(params)
    spec = space.spec(
        drawn,
        metric=metric,
        trials=trials,
        mode=mode,
        search=search,
        scheduler=scheduler,
        concurrency=concurrency,
    )
    request = of_function(
        fn,
        name=name,
        dataset=dataset,
        params=fixed,
        retries=retries,
        profile=profile,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        priority=priority,
        time_limit=time_limit,
    )
    return submit(snapshot.of_function(fn), request, spec, detach=detach)


def submit(
    code: snapshot.Code, request: Request, spec: wire.SweepSpec, *, detach: bool = False
) -> Sweep:
    """Send the sweep, and follow it to its end unless `detach`."""
    from aiaas_magics import submission

    if request.workers > 1:
        raise InvalidInput(
            f"A trial of a sweep has one worker, and --workers says {request.workers}.",
            remedy="Leave --workers out, and give --concurrency for trials side by side.",
        )
    sent = submission.submit(code, request, sweep=spec)
    submitted = Sweep(sent._client, sent._record)
    if not detach:
        submission.follow(submitted)
    return submitted


def _spec_of(record: wire.Run) -> wire.SweepSpec:
    if record.sweep is None:
        raise InvalidInput(f"Run {record.id} is no sweep.", remedy="See '%aiaas runs'.")
    return record.sweep


def _facts(record: wire.Run, trials: Trials) -> list[tuple[str, str]]:
    """The first is how far it is."""
    spec = _spec_of(record)
    running = len(trials.records) - trials.over
    progress = f"{trials.over} of {spec.trials} trials"
    if running and not record.state.is_terminal:
        progress += f", {running} running"
    best = trials.best
    found = ""
    if best is not None:
        params = ", ".join(f"{name}={_value(best.params.get(name))}" for name in spec.space)
        found = f"trial {_number(best)}: {spec.metric} {_metric(best, spec)} with {params}"
    drawn = ", ".join(f"{name}={space.shown(where)}" for name, where in spec.space.items())
    how = spec.search if spec.scheduler == "none" else f"{spec.search}, {spec.scheduler}"
    return [
        ("progress", progress),
        ("best", found),
        ("space", drawn),
        ("search", f"{how}, {spec.mode}imum of {spec.metric}"),
    ]


def _pictures(spec: wire.SweepSpec, trials: Trials) -> list[str]:
    """Plot and table, the best trial marked in both."""
    best = trials.best
    lines = [
        Line(
            {name: record.params.get(name) for name in spec.space},
            value,
            best is not None and record.id == best.id,
        )
        for record in trials.by_number()
        if (value := _finite(record, spec)) is not None
    ]
    logarithmic = [name for name, where in spec.space.items() if where.kind == "log"]
    titles, rows = _rows(spec, trials)
    table = [[display.escape(cell) for cell in row] for row in rows]
    for row, record in zip(table, _shown(trials), strict=True):
        row[-1] = _state(record)
        if best is not None and record.id == best.id:
            row[:-1] = [f"<b>{cell}</b>" for cell in row[:-1]]
    hidden = len(trials.records) - len(rows)
    return [
        parallel_coordinates.html(lines, spec.metric, spec.mode, logarithmic),
        display.table(titles, table) if rows else "",
        display.muted(f"and {hidden} more: sweep.trials()") if hidden else "",
    ]


def _text_table(spec: wire.SweepSpec, trials: Trials) -> str:
    titles, rows = _rows(spec, trials)
    if not rows:
        return ""
    best = trials.best
    for row, record in zip(rows, _shown(trials), strict=True):
        if best is not None and record.id == best.id:
            row[0] = f"{row[0]} *"
    clean = [[display.clean(cell) for cell in row] for row in rows]
    return display.text_table([display.clean(title) for title in titles], clean)


def _rows(spec: wire.SweepSpec, trials: Trials) -> tuple[list[str], list[list[str]]]:
    titles = ["trial", "run", *spec.space, spec.metric, "time", "state"]
    rows = [
        [
            _number(record),
            record.id,
            *(_value(record.params.get(name)) for name in spec.space),
            _metric(record, spec),
            _seconds(record),
            str(record.state),
        ]
        for record in _shown(trials)
    ]
    return titles, rows


def _shown(trials: Trials) -> list[wire.Run]:
    ranked = trials.ranked()
    going_on = [record for record in ranked if not record.state.is_terminal]
    over = [record for record in ranked if record.state.is_terminal]
    chosen = {record.id for record in [*going_on[:_SHOWN], *over[: _SHOWN - len(going_on)]]}
    return [record for record in ranked if record.id in chosen]


def _finite(record: wire.Run, spec: wire.SweepSpec) -> float | None:
    """The trial's value; None of one that failed or has none."""
    value = record.last_metrics.get(spec.metric)
    failed = record.state in (wire.RunState.FAILED, wire.RunState.LOST)
    return value if value is not None and math.isfinite(value) and not failed else None


def _metric(record: wire.Run, spec: wire.SweepSpec) -> str:
    value = record.last_metrics.get(spec.metric)
    return "" if value is None else display.number(value)


def _number(record: wire.Run) -> str:
    return "" if record.trial is None else str(record.trial)


def _param(name: str, run: Run) -> str:
    return _value(run.params.get(name))


def _value(value: wire.ParamValue) -> str:
    return display.number(value) if isinstance(value, float) else str(value)


def _state(record: wire.Run) -> str:
    badge = display.badge(record.state)
    early = record.state is wire.RunState.CANCELLED and record.reason
    return f"{badge} {display.muted(record.reason)}" if early else badge


def _seconds(record: wire.Run) -> str:
    if record.started_at is None or record.finished_at is None:
        return ""
    return display.duration((record.finished_at - record.started_at).total_seconds())
