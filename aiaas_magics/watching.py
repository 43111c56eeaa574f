"""Following a run until it is over or the user looks away."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from aiaas_magics.client.runs import Update
from aiaas_magics.log_tail import check_worker
from aiaas_magics.run import Run
from aiaas_magics.run_view import RunView
from aiaas_magics.screen import NotebookScreen, Screen, screen

# A redraw costs a tenth of a second of a core that the training may want.
_REDRAW_SECONDS = 1.0
# Drawing takes at most this share of the time, however slow the machine is just now.
_DRAWING_SHARE = 0.1
# Nothing but the clock has changed: seconds matter in the first minute only.
_CLOCK_SECONDS = 5.0
_FIRST_SECONDS = 60.0
# What came before one began to look: as much as is shown of it.
_PAST_POINTS = 1000
_PAST_LOG_BYTES = 64 * 1024


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
            for update in self._all():
                self.updates.put(update)
                if self._left.is_set():
                    return
        except Exception as error:  # handed on, whatever it is: a silent end would look like none
            self.updates.put(error)
        else:
            self.updates.put(None)

    def _all(self) -> Iterator[Update]:
        client, run_id = self._run._client.runs, self._run.id
        metrics_since = log_offset = 0
        if self._run._record.started_at is not None:
            metrics = client.metrics(run_id, points=_PAST_POINTS)
            yield metrics
            log = client.logs(run_id, tail=_PAST_LOG_BYTES)
            yield log
            metrics_since, log_offset = metrics.next_since, log.next_offset
        yield from client.watch(run_id, metrics_since=metrics_since, log_offset=log_offset)

    def leave(self) -> None:
        """Nobody reads any more; the thread ends at the next event."""
        self._left.set()


def watch(run: Run, on: Screen | None = None, *, worker: int | None = None) -> Run:
    """Show the run until it is over; the last picture stays. `worker` is whose log to show.

    Whether it succeeded is read from its state alone. An interrupt leaves it running and raises
    `KeyboardInterrupt`.
    """
    record = run.refresh()
    if worker is not None:
        check_worker(worker, record.resources.workers)
    on = on or screen(run.data)
    view = run.view(worker)
    feed = _Feed(run)
    feed.start()
    try:
        _follow(view, feed, on)
    finally:
        feed.leave()
        run._take(view.record)
        on.show(view)
        if isinstance(on, NotebookScreen):
            run.shown_here()
    return run


def _follow(view: RunView, feed: _Feed, on: Screen) -> None:
    began = drawn_at = time.monotonic()
    pause = _draw(view, on)
    news = False
    while True:
        passed = time.monotonic() - drawn_at
        # Where nothing happens the clock goes on all the same.
        clock = _REDRAW_SECONDS if drawn_at - began < _FIRST_SECONDS else _CLOCK_SECONDS
        left = (pause if news else max(pause, clock)) - passed
        if left <= 0:
            pause, drawn_at, news = _draw(view, on), time.monotonic(), False
            continue
        try:
            update = feed.updates.get(timeout=left)
        except queue.Empty:
            continue
        if update is None:
            return
        if isinstance(update, Exception):
            raise update
        view.take(update)
        news = True


def _draw(view: RunView, on: Screen) -> float:
    """Show it; returns for how many seconds it may then stay as it is."""
    began = time.monotonic()
    on.show(view)
    return max(_REDRAW_SECONDS, (time.monotonic() - began) / _DRAWING_SHARE)
