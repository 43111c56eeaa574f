"""Following a run: its state, plot and last log lines, until it is over or the user looks away."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque

from aiaas_hub.schemas import runs as wire
from aiaas_magics import display, plot
from aiaas_magics.client.runs import Update
from aiaas_magics.run import Run, metrics_line, timing, waiting
from aiaas_magics.screen import Screen, screen

# A redraw costs a tenth of a second of a core that the training may want.
_REDRAW_SECONDS = 1.0
_LOG_LINES = 8
_LINE_LENGTH = 400
# Beyond this many points a plot of a few hundred pixels shows nothing more.
_MOST_POINTS = 20_000


class RunView:
    """What is known of a run while it is followed."""

    def __init__(self, record: wire.Run) -> None:
        self.record = record
        self.points: list[wire.MetricPoint] = []
        self.trouble = ""
        self._plot: str | None = ""
        """None: to be drawn again. Clock ticks show the old one."""
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._partial = ""

    def take(self, update: Update) -> None:
        self.trouble = ""
        if isinstance(update, wire.Run):
            self.record = update
        elif isinstance(update, wire.Metrics):
            self.points.extend(update.points)
            self._plot = None
            if len(self.points) > _MOST_POINTS:
                self.points = self.points[::2]
        elif isinstance(update, wire.LogChunk):
            self._take_log(update.text)
        else:
            self.trouble = f"The line to the platform is broken ({update.reason}); trying again."

    def _take_log(self, text: str) -> None:
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole:
            # A progress bar writes its line again and again, each time after a return.
            shown = display.clean(line.rstrip("\r").rpartition("\r")[2])[:_LINE_LENGTH]
            if shown.strip():
                self._lines.append(shown)
        self._partial = self._partial[-_LINE_LENGTH:]

    @property
    def log_tail(self) -> str:
        partial = display.clean(self._partial.rpartition("\r")[2])
        return "\n".join([*self._lines, partial] if partial.strip() else self._lines)

    @property
    def _values(self) -> dict[str, float]:
        return self.points[-1].values if self.points else self.record.last_metrics

    @property
    def _step(self) -> str:
        return f"step {self.points[-1].step:,}" if self.points else ""

    def line(self) -> str:
        record = self.record
        parts = [f"{record.name} · {record.id}: {record.state}"]
        parts += [waiting(record).rstrip("."), self._step, metrics_line(self._values)]
        if record.state.is_terminal:
            parts.append(timing(record))
        return display.clean(" · ".join(part for part in parts if part))

    def html(self) -> str:
        record = self.record
        terminal = record.state.is_terminal
        facts = [
            ("now", display.escape(waiting(record))),
            ("progress", display.escape(f"{self._step}  {metrics_line(self._values)}".strip())),
            ("time", display.escape(timing(record))),
            ("", display.muted(self.trouble) if self.trouble else ""),
        ]
        if self._plot is None:
            self._plot = plot.html(self.points)
        more = [self._plot]
        if record.error is not None and record.error.traceback:
            more.append(display.pre(record.error.traceback))
        if self.log_tail:
            more.append(display.pre(self.log_tail))
        if not terminal:
            hint = f"Interrupt to stop watching; '%aiaas cancel {record.id}' stops the run."
            more.append(display.muted(hint))
        return display.card(f"{record.name} · {record.id}", str(record.state), facts, *more)

    def text(self) -> str:
        parts = [self.line(), self.trouble, plot.text(self.points)]
        if self.record.error is not None:
            parts.append(display.clean(self.record.error.traceback))
        parts.append(self.log_tail)
        return "\n".join(part for part in parts if part)


class _Feed(threading.Thread):
    """Reads a run's events beside the main thread, which can then redraw and be interrupted."""

    def __init__(self, run: Run) -> None:
        super().__init__(name=f"aiaas-watch-{run.id}", daemon=True)
        self._run = run
        self._left = threading.Event()
        self.updates: queue.SimpleQueue[Update | Exception | None] = queue.SimpleQueue()
        """None: the run is over. An exception is raised again in the main thread."""

    def run(self) -> None:
        try:
            for update in self._run._client.runs.watch(self._run.id):
                self.updates.put(update)
                if self._left.is_set():
                    return
        except Exception as error:  # handed on, whatever it is: a silent end would look like none
            self.updates.put(error)
        else:
            self.updates.put(None)

    def leave(self) -> None:
        """Nobody reads any more; the thread ends at the next event."""
        self._left.set()


def watch(run: Run, on: Screen | None = None) -> Run:
    """Show the run until it is over; the last picture stays.

    Whether it succeeded is read from its state alone. An interrupt leaves it running and raises
    `KeyboardInterrupt`.
    """
    on = on or screen()
    view = RunView(run.refresh())
    feed = _Feed(run)
    feed.start()
    try:
        _follow(view, feed, on)
    finally:
        feed.leave()
        run._take(view.record)
        on.show(view)
    return run


def _follow(view: RunView, feed: _Feed, on: Screen) -> None:
    on.show(view)
    drawn_at = time.monotonic()
    while True:
        try:
            update = feed.updates.get(timeout=_REDRAW_SECONDS)
        except queue.Empty:
            # Nothing happened, but the clock went on.
            on.show(view)
            continue
        if update is None:
            return
        if isinstance(update, Exception):
            raise update
        view.take(update)
        if time.monotonic() - drawn_at >= _REDRAW_SECONDS:
            on.show(view)
            drawn_at = time.monotonic()
