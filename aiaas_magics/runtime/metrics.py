"""Metrics go to the service in batches, past `ray.train.report`, which costs more per call."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_hub.schemas.jobs import JobMetrics
from aiaas_hub.schemas.runs import MetricPoint, Progress
from aiaas_magics.runtime.api import FLUSH_SECONDS

INTERVAL_SECONDS = 1.0
"""Least time from one batch to the next. Points after a pause are sent at once."""
CAPACITY = 100_000
"""Points kept for a service that is down; beyond it every second one goes."""
_BATCH = 5_000


class MetricSender:
    """Sends points from a thread of its own. `put` never blocks.

    Sequence numbers begin at the microseconds since the attempt began (`attempt_began`, seconds
    since the epoch): a worker that Ray Train restarts within an attempt then goes on above the
    numbers of the one before it.
    """

    def __init__(
        self,
        send: Callable[[JobMetrics], None],
        *,
        attempt_began: float,
        interval: float = INTERVAL_SECONDS,
        capacity: int = CAPACITY,
    ) -> None:
        self._send = send
        self._interval = interval
        self._capacity = capacity
        self._pending: list[MetricPoint] = []
        self._progress: Progress | None = None
        self._sequence = max(0, int((time.time() - attempt_began) * 1_000_000))
        self._lock = threading.Lock()
        self._wake = threading.Event()
        """There is something to send."""
        self._hurry = threading.Event()
        """It is waited for."""
        self._sent = threading.Event()
        self._sent.set()
        self._late = False
        self._closing = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="aiaas-metrics", daemon=True)
        self._thread.start()

    def put(self, step: int, values: Mapping[str, float]) -> None:
        point = MetricPoint(step=step, time=time.time(), values=dict(values))
        with self._lock:
            if self._stopped:
                return
            self._sent.clear()
            self._wake.set()
            self._pending.append(point)
            if len(self._pending) > self._capacity:
                # The newest stays: it is the one that is looked at.
                self._pending = self._pending[len(self._pending) % 2 ^ 1 :: 2]

    def progress(self, progress: Progress) -> None:
        """How far the run is; only the latest is sent."""
        with self._lock:
            if not self._stopped:
                self._progress = progress
                self._wake.set()

    def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Return once the points so far are with the service, or after `timeout` seconds; once it
        was too late, training waits no more until the service answers again."""
        if self._late or self._sent.is_set():
            return
        self._hurry.set()
        self._late = not self._sent.wait(timeout)

    def close(self, timeout: float = 60) -> None:
        """Send what is left, waiting at most `timeout` seconds; a repeat does nothing."""
        with self._lock:
            self._closing = True
            self._wake.set()
            self._hurry.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            # Cleared first: what comes from here on is served by another round.
            self._wake.clear()
            closing = self._closing
            while batch := self._take():
                try:
                    self._send(batch)
                except AiaasError as error:
                    with self._lock:
                        self._stopped = True
                        self._sent.set()
                    print(  # noqa: T201 - the run's log is where its user looks
                        f"[aiaas] Metrics are not sent any more: {error}", file=sys.stderr
                    )
                    return
                self._sequence += len(batch.points)
                self._late = False
                # What came meanwhile is a point or two: no batch of its own, unless waited for.
                if not self._goes_on(closing):
                    break
            if closing:
                return
            self._hurry.wait(self._interval)

    def _goes_on(self, closing: bool) -> bool:
        with self._lock:
            if not self._pending:
                self._sent.set()
                if not self._closing:
                    self._hurry.clear()
            return closing or self._hurry.is_set() or len(self._pending) >= _BATCH

    def _take(self) -> JobMetrics | None:
        with self._lock:
            points, self._pending = self._pending[:_BATCH], self._pending[_BATCH:]
            progress, self._progress = self._progress, None
        if not points and progress is None:
            return None
        return JobMetrics(sequence=self._sequence, points=points, progress=progress)


def number(name: str, value: Any) -> float:
    """A reported value. Raises `InvalidInput` where it is none."""
    try:
        # A loss still knows how it came about, and torch warns of forgetting that silently.
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"The metric {name!r} is not a number but {type(value).__name__}.",
            remedy="Report numbers or tensors with one element.",
        ) from error
