"""`aiaas.runs` and the `Run` that it gives."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import ValidationError

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import AiaasError, NotFound
from aiaas_magics import display, run_facts
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Column, Listing, Rich, Text
from aiaas_magics.errors import RunFailed, invalid
from aiaas_magics.log_tail import of_worker
from aiaas_magics.request import checked_params

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from aiaas_magics.comparison import Comparison
    from aiaas_magics.dataset import Dataset
    from aiaas_magics.model import Model
    from aiaas_magics.run_view import RunView

# `run.state` in a loop must not become a flood of requests.
_FRESH_SECONDS = 0.5
_LONGEST_WAIT = 2.0
# Live runs are among the newest.
_LOOKED_AT = 100


MIME_TYPE = "application/vnd.aiaas.run+json"
"""Of a run's display: a page that knows it shows the run as it is by now."""


class Run(Rich):
    """One submission of training code: follow it, read it, cancel it, go on from it."""

    def __init__(self, client: Client, record: wire.Run) -> None:
        self._client = client
        self._record = record
        self._read_at = time.monotonic()
        self._shown_in: int | None = None

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def owner(self) -> str:
        return self._record.owner

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def state(self) -> str:
        """The state by now: queued, starting, running, succeeded, failed, cancelled or lost."""
        return str(self.refresh().state)

    @property
    def params(self) -> dict[str, wire.ParamValue]:
        return dict(self._record.params)

    @property
    def created_at(self) -> datetime:
        return self._record.created_at

    @property
    def started_at(self) -> datetime | None:
        """When the first worker called `train`."""
        return self.refresh().started_at

    @property
    def finished_at(self) -> datetime | None:
        return self.refresh().finished_at

    @property
    def error(self) -> str:
        """Why it failed and what to do about it; empty when it did not."""
        return run_facts.error(self.refresh())

    @property
    def model(self) -> Model | None:
        """The model that the run handed over, if it has."""
        pinned = self.refresh().model
        if pinned is None:
            return None
        from aiaas_magics.model import Model

        record = self._client.models.get(pinned.owner, pinned.name, pinned.version)
        return Model(self._client, record)

    @property
    def datasets(self) -> list[Dataset]:
        """The dataset versions that it made: those of a transform, once it has succeeded."""
        from aiaas_magics.dataset import Dataset

        get = self._client.datasets.get
        made = self.refresh().made
        return [Dataset(self._client, get(one.owner, one.name, one.version)) for one in made]

    @property
    def resumed_from(self) -> str | None:
        """Id of the run whose last checkpoint this one began with."""
        return self._record.resumed_from

    def logs(self, worker: int | None = None) -> Text:
        """All that the run has written so far, or what the worker of this rank has.

        Raises `InvalidInput` if the run has no such worker.
        """
        text, offset = [], 0
        of_worker("", worker, self._record.resources.workers)
        while True:
            chunk = self._client.runs.logs(self.id, offset=offset)
            text.append(chunk.text)
            if chunk.complete or chunk.next_offset <= offset:
                return Text(of_worker("".join(text), worker, self._record.resources.workers))
            offset = chunk.next_offset

    def metrics(self) -> pd.DataFrame:
        """One row for each report: `step`, `time` (seconds since the epoch) and the values."""
        from aiaas_magics.run_metrics import table

        return table(self._points())

    def wait(self, timeout: float | None = None) -> Run:
        """Return when the run is over, however it ended; `.state` says how.

        Raises `TimeoutError` after `timeout` seconds; the run itself goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.1
        while not self.refresh(always=True).state.is_terminal:
            left = _LONGEST_WAIT if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"Run {self.id} is still {self._record.state} after {timeout:g} s. It goes on: "
                    f"wait again, or cancel it with run.cancel()."
                )
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_WAIT)
        return self

    def cancel(self) -> Run:
        """Ask the run to stop; a run that is over stays as it is."""
        self._take(self._client.runs.cancel(self.id))
        return self

    def resume(self, **params: wire.ParamValue) -> Run:
        """A new run of the same code and data, from this one's last checkpoint.

        `params` are changed or added; the others stay. Returns once it is submitted. Raises
        `Conflict` while this run is not over.
        """
        return self.resume_with(params)

    def resume_with(
        self, params: Mapping[str, wire.ParamValue], *, time_limit: float | None = None
    ) -> Run:
        """The same for parameters of any name, and with another time limit, in seconds."""
        try:
            changes = wire.RunResume(params=checked_params(params), time_limit=time_limit)
        except ValidationError as error:
            raise invalid(error) from None
        return Run(self._client, self._client.runs.resume(self.id, changes))

    def to_mlflow(self, uri: str | None = None, experiment: str | None = None) -> str:
        """Write parameters, metrics, tags and model to the MLflow at `uri` (or at
        `AIAAS_MLFLOW_URI`), and return the run's id there. A repeat adds what is new.

        Raises `InvalidInput` without an address or the package, `Unavailable` if MLflow does not
        take it.
        """
        from aiaas_magics.tracking import to_mlflow

        return to_mlflow(self, uri, experiment)

    def to_tensorboard(self, directory: str | Path) -> Path:
        """Write the metrics as TensorBoard's event file below `directory`, and beside it what the
        workers wrote to `ctx.tensorboard_dir`; returns where. A repeat takes the place of the one
        before."""
        from aiaas_magics.tracking import to_tensorboard

        return to_tensorboard(self, directory)

    def lineage(self) -> Rich:
        """Which code and data it came from."""
        from aiaas_magics.lineage import Lineage

        return Lineage(self._client.runs.lineage(self.id))

    def refresh(self, *, always: bool = False) -> wire.Run:
        """The record by now. A run that is over does not change and is not asked for again."""
        stale = time.monotonic() - self._read_at > _FRESH_SECONDS
        if not self._record.state.is_terminal and (always or stale):
            self._take(self._client.runs.get(self.id))
        return self._record

    def raise_for_failure(self) -> Run:
        """Return the run, or raise `RunFailed` with a sentence and a remedy if it is over and
        did not succeed."""
        record = self.refresh(always=True)
        state = record.state
        if not state.is_terminal or state is wire.RunState.SUCCEEDED:
            return self
        if record.error is not None:
            raise RunFailed(
                self,
                f"Run {self.id} {_ENDED[state]}: {display.sentence(record.error.message)}",
                remedy=record.error.remedy or f"Read its log with '%aiaas logs {self.id}'.",
            )
        remedy = (
            "Run the cell again to start another."
            if state is wire.RunState.CANCELLED
            else f"Read its log with '%aiaas logs {self.id}'."
        )
        raise RunFailed(self, f"Run {self.id} {_ENDED[state]}.", remedy=remedy)

    def _take(self, record: wire.Run) -> None:
        # A terminal state is never left, whatever a late answer says.
        if not self._record.state.is_terminal or record.state.is_terminal:
            self._record = record
        self._read_at = time.monotonic()

    def _points(self) -> list[wire.MetricPoint]:
        points: list[wire.MetricPoint] = []
        since = 0
        while True:
            page = self._client.runs.metrics(self.id, since=since)
            points.extend(page.points)
            if not page.points or page.next_since <= since:
                return points
            since = page.next_since

    def view(self, worker: int | None = None) -> RunView:
        """How it looks while it is followed; `worker` is whose log to show."""
        from aiaas_magics.run_view import RunView

        return RunView(self._record, worker)

    @property
    def data(self) -> dict[str, object]:
        """MIME type → what a page needs to find the run again."""
        return {MIME_TYPE: {"run": self.id, "version": 1}}

    def shown_here(self) -> None:
        """The cell that runs now shows this run: as its value a line is enough."""
        self._shown_in = _cell()

    def _facts(self) -> list[tuple[str, str]]:
        record = self._record
        return [
            ("now", run_facts.waiting(record)),
            ("error", run_facts.error(record)),
            ("metrics", run_facts.metrics_line(record.last_metrics)),
            ("datasets", ", ".join(map(str, record.datasets))),
            ("makes", run_facts.makes(record)),
            ("params", ", ".join(f"{k}={v}" for k, v in record.params.items())),
            ("workers", str(record.resources.workers)),
            ("priority", "" if record.priority is wire.Priority.NORMAL else str(record.priority)),
            ("resumed from", record.resumed_from or ""),
            ("attempt", str(record.attempt) if record.attempt > 1 else ""),
            ("time", run_facts.timing(record)),
            ("model", str(record.model) if record.model else ""),
        ]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        error = self._record.error
        more = [display.pre(error.traceback)] if error is not None and error.traceback else []
        return display.card(self._title, str(self._record.state), facts, *more)

    def _text(self) -> str:
        return display.text_card(f"Run {self._title}", str(self._record.state), self._facts())

    @property
    def _title(self) -> str:
        return f"{self.name} · {self.id}"

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        # A display must not fail: without the service it shows what was known last.
        with suppress(AiaasError):
            self.refresh()
        if self._shown_in is not None and self._shown_in == _cell():
            brief = f"Run {self._title} [{self._record.state}]"
            return {"text/html": display.muted(brief), "text/plain": display.clean(brief)}
        return {**self.data, **super()._repr_mimebundle_(include, exclude)}


class Runs:
    """My runs."""

    def list(self) -> Listing[Run]:
        """Newest first."""
        client = current_client()
        return Listing(
            (of_record(client, record) for record in client.runs.list()),
            _COLUMNS,
            empty=_EMPTY,
        )

    def get(self, id: str) -> Run:  # noqa: A002  (its public name)
        client = current_client()
        return of_record(client, client.runs.get(id))

    def compare(self, *runs: Run | str) -> Comparison:
        """Runs side by side: parameters, metrics, curves, code, data, resources and times.

        Takes runs or their ids, two to ten. Raises `InvalidInput` for another number of them.
        """
        from aiaas_magics.comparison import compare

        return compare([run if isinstance(run, Run) else self.get(run) for run in runs])


runs = Runs()


def of_record(client: Client, record: wire.Run) -> Run:
    """The run as what it is: a `Sweep` if it is one."""
    if record.kind is not wire.RunKind.SWEEP:
        return Run(client, record)
    from aiaas_magics.sweeping import Sweep

    return Sweep(client, record)


def newest(count: int) -> Listing[Run]:
    """My last runs: who has thousands does not want to wait for them all."""
    client = current_client()
    records = islice(client.runs.list(), count)
    return Listing((of_record(client, record) for record in records), _COLUMNS, empty=_EMPTY)


def newest_live() -> Run:
    """The run that was started last and is not over. Raises `NotFound` if there is none."""
    client = current_client()
    for record in islice(client.runs.list(), _LOOKED_AT):
        if not record.state.is_terminal and record.kind is not wire.RunKind.TRIAL:
            return of_record(client, record)
    raise NotFound("None of your runs goes on.", remedy="'%aiaas runs' lists them with their ids.")


_EMPTY = "No runs yet: start one with '%%aiaas train --name NAME'."

_ENDED = {
    wire.RunState.FAILED: "failed",
    wire.RunState.CANCELLED: "was cancelled",
    wire.RunState.LOST: "was lost",
}

_COLUMNS: list[Column[Run]] = [
    Column("run", lambda r: r.id, lambda r: display.code(r.id)),
    Column("name", lambda r: r.name),
    Column("state", lambda r: r._record.state, lambda r: display.badge(r._record.state)),
    Column("metrics", lambda r: run_facts.measured(r._record)),
    Column("submitted", lambda r: display.ago(r.created_at)),
    Column("time", lambda r: run_facts.timing(r._record)),
    Column("model", lambda r: r._record.model or ""),
]


def _cell() -> int | None:
    """Number of the cell that runs now; None outside IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    count: int | None = getattr(shell, "execution_count", None)
    return count
