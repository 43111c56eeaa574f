"""The workers' output, read from FIFOs by the driver: whole lines, each with its worker's rank.

What a worker has written is in the pipe even if the process dies the next moment, so its last
words arrive. Workers on other nodes are forwarded by Ray instead, as their FIFO is out of reach.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiaas_magics.runtime.lines import SILENCE_SECONDS, LineJoiner
from aiaas_magics.runtime.logs import enlarge

_READ_SIZE = 1 << 20
_PAUSE_SECONDS = 0.05
"""Between two reads. To be woken for each line of a flood takes a processor from the workers, who
wait for each other at every step."""
_NEARLY_FULL = 32 * 1024
"""Bytes of a pipe that is not left to wait: half of what the smallest holds."""


class WorkerLogs:
    """Reads the output of workers of this node until each has ended."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._directory = Path(tempfile.mkdtemp(prefix="aiaas-output-"))
        self._selector = selectors.DefaultSelector()
        self._opened = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="aiaas-worker-logs", daemon=True)
        self._thread.start()

    def follow(self, workers: Sequence[Any]) -> None:
        """Take the output of these Ray Train workers from now on, where it is within reach."""
        import ray

        here = ray.get_runtime_context().get_node_id()
        waits = []
        for rank, worker in enumerate(workers):
            if worker.metadata.node_id == here:
                prefix = f"[{rank}] ".encode() if len(workers) > 1 else b""
                waits.append(worker.actor.write_to.remote(self.open(prefix)))
        ray.get(waits)

    def open(self, prefix: bytes) -> str:
        """Path of a new FIFO; what is written to it is a part of the log."""
        with self._lock:
            self._opened += 1
            path = self._directory / str(self._opened)
            os.mkfifo(path, 0o600)
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            enlarge(descriptor)
            self._selector.register(descriptor, selectors.EVENT_READ, LineJoiner(prefix))
        return str(path)

    def catch_up(self) -> None:
        """Return once all that the workers have written so far is read."""
        with self._lock:
            self._take()

    def close(self, timeout: float = 3) -> None:
        """Read what there is until all writers have ended, at most `timeout` seconds."""
        self._closing.set()
        self._thread.join(timeout)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _read(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._selector.select(0.1 if closing else 0.5)
            with self._lock:
                most = self._take()
                self._end_silent_lines()
                if closing and not self._selector.get_map():
                    return
            if 0 < most < _NEARLY_FULL:
                self._closing.wait(_PAUSE_SECONDS)

    def _take(self) -> int:
        """Read what is there; the most bytes that came from one worker."""
        most = 0
        for key, _ in self._selector.select(0):
            joiner: LineJoiner = key.data
            # A FIFO that nobody has opened yet reads as empty, too.
            with contextlib.suppress(BlockingIOError):
                data = os.read(key.fd, _READ_SIZE)
                self._write(joiner.feed(data) if data else joiner.end())
                most = max(most, len(data))
                if not data:
                    self._selector.unregister(key.fd)
                    os.close(key.fd)
        return most

    def _end_silent_lines(self) -> None:
        now = time.monotonic()
        for key in list(self._selector.get_map().values()):
            if now - key.data.heard > SILENCE_SECONDS:
                self._write(key.data.end())
