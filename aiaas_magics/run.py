"""`aiaas.runs` and the `Run` that it gives."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import AiaasError
from aiaas_magics import display, not_yet
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Column, Listing, Rich, Text
from aiaas_magics.errors import RunFailed

if TYPE_CHECKING:
    import pandas as pd

    from aiaas_magics.model import Model

# `run.state` in a loop must not become a flood of requests.
_FRESH_SECONDS = 0.5
_LONGEST_WAIT = 2.0


class Run(Rich):
    """One submission of training code: follow it, read it, cancel it."""

    def __init__(self, client: Client, record: wire.Run) -> None:
        self._client = client
        self._record = record
        self._read_at = time.monotonic()

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
        """Why it failed; empty when it did not."""
        error = self.refresh().error
        return error.message if error else ""

    @property
    def model(self) -> Model | None:
        """The model that the run handed over, if it has."""
        pinned = self.refresh().model
        if pinned is None:
            return None
        from aiaas_magics.model import Model

        record = self._client.models.get(pinned.owner, pinned.name, pinned.version)
        return Model(self._client, record)

    def logs(self) -> Text:
        """All that the run has written so far."""
        text, offset = [], 0
        while True:
            chunk = self._client.runs.logs(self.id, offset=offset)
            text.append(chunk.text)
            if chunk.complete or chunk.next_offset <= offset:
                return Text("".join(text))
            offset = chunk.next_offset

    def metrics(self) -> pd.DataFrame:
        """One row for each report: `step`, `time` (seconds since the epoch) and the values."""
        from aiaas_magics.run_metrics import RunMetrics

        return RunMetrics(self).to_pandas()

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

    def resume(self, **params: wire.ParamValue) -> NoReturn:
        """Go on from the last checkpoint: promised, not in this release."""
        not_yet.refuse("Run.resume()", not_yet.VERBS["resume"])

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

    def _facts(self) -> list[tuple[str, str]]:
        record = self._record
        error = ""
        if record.error is not None:
            error = f"{record.error.message} {record.error.remedy}".strip()
        return [
            ("now", waiting(record)),
            ("error", error),
            ("metrics", metrics_line(record.last_metrics)),
            ("datasets", ", ".join(map(str, record.datasets))),
            ("params", ", ".join(f"{k}={v}" for k, v in record.params.items())),
            ("workers", str(record.resources.workers)),
            ("attempt", str(record.attempt) if record.attempt > 1 else ""),
            ("time", timing(record)),
            ("model", str(record.model) if record.model else ""),
        ]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        return display.card(self._title, str(self._record.state), facts)

    def _text(self) -> str:
        return display.text_card(f"Run {self._title}", str(self._record.state), self._facts())

    @property
    def _title(self) -> str:
        return f"{self.name} · {self.id}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        # A display must not fail: without the service it shows what was known last.
        with suppress(AiaasError):
            self.refresh()
        return super()._repr_mimebundle_(include, exclude)


class Runs:
    """My runs."""

    def list(self) -> Listing[Run]:
        """Newest first."""
        client = current_client()
        return Listing(
            (Run(client, record) for record in client.runs.list()),
            _COLUMNS,
            empty=_EMPTY,
        )

    def get(self, id: str) -> Run:  # noqa: A002  (its public name)
        client = current_client()
        return Run(client, client.runs.get(id))


runs = Runs()


def newest(count: int) -> Listing[Run]:
    """My last runs: who has thousands does not want to wait for them all."""
    client = current_client()
    records = islice(client.runs.list(), count)
    return Listing((Run(client, record) for record in records), _COLUMNS, empty=_EMPTY)


_EMPTY = "No runs yet: start one with '%%aiaas train --name NAME'."

_ENDED = {
    wire.RunState.FAILED: "failed",
    wire.RunState.CANCELLED: "was cancelled",
    wire.RunState.LOST: "was lost",
}

# The service's own word, and Ray's for a job whose driver does not train yet.
_STARTING_REASONS = ("starting workers", "Job ")

_COLUMNS: list[Column[Run]] = [
    Column("run", lambda r: r.id, lambda r: display.code(r.id)),
    Column("name", lambda r: r.name),
    Column("state", lambda r: r._record.state, lambda r: display.badge(r._record.state)),
    Column("metrics", lambda r: metrics_line(r._record.last_metrics)),
    Column("submitted", lambda r: display.ago(r.created_at)),
    Column("time", lambda r: timing(r._record)),
    Column("model", lambda r: r._record.model or ""),
]


def metrics_line(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {display.number(value)}" for name, value in values.items())


def waiting(record: wire.Run) -> str:
    """What goes on before training does."""
    if record.state.is_terminal:
        return ""
    if record.state is wire.RunState.STARTING and record.reason.startswith(_STARTING_REASONS):
        return (
            "Ray is starting the workers; the first run on a fresh platform takes about half a "
            "minute"
        )
    return record.reason


def timing(record: wire.Run) -> str:
    """How long it waited and how long it trained, as far as it has come."""
    end = record.finished_at or datetime.now(UTC)
    if record.started_at is None:
        waited = max(0.0, (end - record.created_at).total_seconds())
        return f"{display.duration(waited)} before its start"
    waited = max(0.0, (record.started_at - record.created_at).total_seconds())
    trained = max(0.0, (end - record.started_at).total_seconds())
    return f"started after {display.duration(waited)}, ran {display.duration(trained)}"
