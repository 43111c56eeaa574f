"""What the run monitor knows and can do, with no page before it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice

from traitlets import Bool, List, Unicode

from aiaas_hub.schemas import runs as wire
from aiaas_magics import display
from aiaas_magics.client import Client
from aiaas_magics.client.runs import Update
from aiaas_magics.panels.attention import Asking, Attended
from aiaas_magics.panels.background import Background
from aiaas_magics.run import of_record
from aiaas_magics.run_facts import metrics_line
from aiaas_magics.run_view import RunView

SHOWN = 100
"""Runs that are listed, the newest ones."""
LIVE_SECONDS = 2.0
LIST_SECONDS = 5.0
QUIET_SECONDS = 15.0
"""Between two looks at the list while none of its runs goes on."""
# Drawing takes at most this share of the kernel's time, however slow the machine is just now.
_DRAWING_SHARE = 0.1
_PAST_POINTS = 1000
_PAST_LOG_BYTES = 64 * 1024
_STATES = tuple(wire.RunState)

EMPTY = "No runs yet. Start one with '%%aiaas train --name NAME' at the head of a cell."


@dataclass
class _Place:
    """How far one run has been read."""

    view: RunView
    since: int = 0
    offset: int = 0
    begun: bool = False


@dataclass(frozen=True)
class _News:
    """What was read of a run; `picture`: of a sweep, drawn already."""

    updates: list[Update] = field(default_factory=list)
    picture: str | None = None


class RunMonitor(Asking, Attended):
    """My runs, and one of them as a cell that follows it shows it."""

    runs: List[tuple[str, str]] = List()
    """`(line, id)` of the newest ones, to choose from."""
    state = Unicode()
    """Only runs in this state; empty: all."""
    empty = Unicode(EMPTY)
    chosen = Unicode()
    """Id of the run that is looked at; empty for none."""
    card = Unicode()
    """It as safe HTML: state, progress, metrics, plots, log tail."""
    live = Bool()
    """Whether the one that is looked at goes on."""
    note = Unicode()
    """What was asked of it and has not happened yet."""
    command = Unicode()
    """What to type to go on from where it ended; empty where there is nothing to go on with."""

    def __init__(self, client: Client, beside: Background) -> None:
        super().__init__(beside)
        self._client = client
        self._records: list[wire.Run] = []
        self._place: _Place | None = None

    # What a user does

    def refresh(self) -> None:
        """Read the list, and the run that is looked at, now and again after a while."""
        self._list()
        # What is over does not change any more.
        if self._place is not None and not self._place.view.record.state.is_terminal:
            self._read(self._place)

    def _list(self) -> None:
        state = wire.RunState(self.state) if self.state in _STATES else None
        self.beside.run(
            "runs",
            lambda: list(islice(self._client.runs.list(state=state), SHOWN)),
            self._listed,
            self._no_list,
        )

    def filter(self, state: str) -> None:
        """List only those in this state; all for an empty one."""
        self.state = state
        self.refresh()

    def choose(self, run_id: str) -> None:
        """Look at this run."""
        if not run_id or run_id == self.chosen:
            return
        self.decline()
        self.chosen = run_id
        self.card = self.command = self.note = ""
        self.live = False
        self._place = None

        def show(record: wire.Run) -> None:
            view = of_record(self._client, record).view()
            view.interruptible = False
            self._place = _Place(view)
            self._draw(self._place, None)
            self._read(self._place)

        self.beside.run("run", lambda: self._client.runs.get(run_id), show, self.failed)

    def cancel(self) -> None:
        """Ask back, then cancel the run that is looked at."""
        place = self._place
        if place is None or not self.live:
            return
        record = place.view.record
        what = "sweep with all its trials" if record.kind is wire.RunKind.SWEEP else "run"
        self.ask(
            f"Cancel the {what} {record.name} · {record.id}? What it has computed since its last "
            "checkpoint is lost.",
            lambda: self._cancel(place),
        )

    # What comes back

    def _cancel(self, place: _Place) -> None:
        run_id = place.view.record.id

        def done(record: wire.Run) -> None:
            self.error = ""
            place.view.take(record)
            if place is self._place:
                self.note = "It was asked to stop, and stops within moments."
                self._draw(place, None)
            self.refresh()

        self.beside.run("cancel", lambda: self._client.runs.cancel(run_id), done, self.failed)

    def _listed(self, records: list[wire.Run]) -> None:
        self.error = ""
        self._records = records
        self.empty = EMPTY if not self.state else f"None of your runs is {self.state}."
        self.runs = [(line(record), record.id) for record in records]
        going = any(not record.state.is_terminal for record in records)
        self.again("runs", LIST_SECONDS if going else QUIET_SECONDS, self._list)

    def _no_list(self, sentence: str) -> None:
        self.failed(sentence)
        self.again("runs", QUIET_SECONDS, self._list)

    def _read(self, place: _Place) -> None:
        """What happened to a run since it was last looked at."""

        def take(news: _News) -> None:
            self.error = ""
            for update in news.updates:
                place.view.take(update)
                if isinstance(update, wire.Metrics):
                    place.since = max(place.since, update.next_since)
                elif isinstance(update, wire.LogChunk):
                    place.offset = max(place.offset, update.next_offset)
            place.begun = place.begun or len(news.updates) > 1
            seconds = self._draw(place, news.picture)
            if self.live:
                pause = max(LIVE_SECONDS, seconds / _DRAWING_SHARE)
                self.again("run", pause, lambda: self._read_again(place))

        def lost(sentence: str) -> None:
            self.failed(sentence)
            self.again("run", QUIET_SECONDS, lambda: self._read_again(place))

        self.beside.run("run", lambda: self._news(place), take, lost)

    def _read_again(self, place: _Place) -> None:
        if place is self._place:
            self._read(place)

    def _news(self, place: _Place) -> _News:
        """Asked beside the main thread, which has no other business with the place meanwhile."""
        runs, run_id = self._client.runs, place.view.record.id
        record = runs.get(run_id)
        updates: list[Update] = [record]
        if record.started_at is not None or record.state.is_terminal:
            if not place.begun:
                updates.append(runs.metrics(run_id, points=_PAST_POINTS))
                updates.append(runs.logs(run_id, tail=_PAST_LOG_BYTES))
            else:
                updates.append(runs.metrics(run_id, since=place.since))
                updates.append(runs.logs(run_id, offset=place.offset))
        if record.kind is not wire.RunKind.SWEEP:
            return _News(updates)
        # A sweep's picture asks for its trials, and needs nothing of what notebooks draw with.
        place.view.record = record
        return _News(updates, place.view.html())

    def _draw(self, place: _Place, picture: str | None) -> float:
        """Show it; returns how many seconds that took."""
        began = time.monotonic()
        record = place.view.record
        sweep = record.kind is wire.RunKind.SWEEP
        if picture is not None or not sweep:
            self.card = picture if picture is not None else place.view.html()
        self.live = not record.state.is_terminal
        self.note = self.note if self.live else ""
        is_done = self.live or sweep or record.state is wire.RunState.SUCCEEDED
        self.command = "" if is_done else f"%aiaas resume {record.id}"
        return time.monotonic() - began

    def html(self) -> str:
        """What it shows where there is no widget."""
        if not self._records:
            return f"<div>{display.escape(self.error or self.empty)}</div>"
        titles, rows = self._table()
        return display.table(titles, [[display.escape(cell) for cell in row] for row in rows])

    def text(self) -> str:
        if not self._records:
            return self.error or self.empty
        table = display.text_table(*self._table())
        return (
            f"Runs (the monitor itself needs a notebook page)\n{table}\n"
            f"Follow one with '%aiaas attach {self._records[0].id}'."
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = [_cells(record) for record in self._records[:20]]
        return ["state", "name", "run", "progress", "metrics", "submitted"], rows


def line(record: wire.Run) -> str:
    """A run in a line of plain text."""
    return "  ·  ".join(cell for cell in _cells(record) if cell)


def _cells(record: wire.Run) -> list[str]:
    progress = record.progress
    step = ""
    if progress is not None:
        of = f" of {progress.total:,}" if progress.total else ""
        step = f"step {progress.step:,}{of}"
    return [
        str(record.state),
        display.clean(record.name),
        record.id,
        step,
        display.clean(metrics_line(dict(list(record.last_metrics.items())[:4]))),
        display.ago(record.created_at),
    ]
