"""The drivers of runs on this machine's own Ray: each is a process that runs one run.

Some are started before their run is known and wait, with workers of theirs, so that a run begins
in moments. A driver has a directory with files that say how far it has come
(`schemas/assignments.py`), so that whoever looks after it next, or in another process, knows as
much. A run is given to a driver by one link, which is made once or not at all.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor
from aiaas_hub.domain.ports import JobState, JobStatus
from aiaas_hub.schemas.assignments import (
    ASSIGNMENT,
    BEGUN,
    END,
    READY,
    WAKE,
    Assignment,
    DriverEnd,
)

log = logging.getLogger(__name__)

_PREFIX = "driver-"
_STOPPED = "stopped"
"""Empty; there once somebody has asked the driver to stop."""
_ENDED = "ended"
"""Empty; made once its process was seen to be gone."""
_STARTS = "starts"
"""How often its process was started again."""
_MAX_STARTS = 2
_GRACE_SECONDS = 10.0
_RETRY_SECONDS = 5.0
_RETRY_AT_MOST_SECONDS = 300.0
_KEPT_SECONDS = 600.0
"""How long what a driver said is kept after its end."""
_REFILL_SECONDS = 30.0
"""How long after a run's start the next reserve is made: it would take the run's processors."""
_MEMORY_EACH = 1_500_000_000
"""Bytes that a waiting driver with two workers takes, measured, and some more."""


@dataclass(frozen=True)
class Reserve:
    """How many drivers wait for a run, and with what."""

    drivers: int = 1
    workers: int = 2
    """For each driver."""
    idle_seconds: float = 3600.0
    """After so long without a run the waiting drivers end, until the next one."""


class RayDrivers:
    def __init__(self, directory: Path, supervisor: Supervisor, reserve: Reserve) -> None:
        self._directory = directory
        self._supervisor = supervisor
        self._reserve = reserve
        self._lock = threading.RLock()
        self._stopping: set[str] = set()
        self._used_at = time.monotonic()
        self._assigned_at = -_REFILL_SECONDS
        self._failures = 0
        self._not_before = 0.0

    def assign(self, assignment: Assignment, environment: Mapping[str, str]) -> None:
        """Give the run to a driver, one that waits if there is one; a repeat does nothing."""
        with self._lock:
            if self._find(assignment.submission_id) is not None:
                return
            self._used_at = self._assigned_at = time.monotonic()
            # One that is still getting ready takes its run then: sooner than a new one could.
            waiting = sorted(self._waiting(), key=lambda name: not self._is_ready(name))
            if waiting and self._link(waiting[0], assignment):
                return
            name = self._make()
            self._link(name, assignment)
            self._start(name, environment)

    def status(self, submission_id: str, environment: Mapping[str, str]) -> JobStatus | None:
        """A driver that died before it began with its run, or was never started, is started."""
        with self._lock:
            name = self._find(submission_id)
            if name is None:
                return None
            directory = self._directory / name
            # Asked first: a driver writes its end before it is gone.
            alive = self._supervisor.alive(name)
            end = _read_end(directory)
            if end is None and alive:
                return JobStatus(JobState.RUNNING)
            if (directory / _STOPPED).exists():
                return JobStatus(JobState.STOPPED)
            if end is not None:
                return JobStatus(JobState.FAILED if end.status else JobState.ENDED, end.message)
            if not (directory / BEGUN).exists() and self._count_start(directory) <= _MAX_STARTS:
                self._start(name, environment)
                return JobStatus(JobState.RUNNING)
            return JobStatus(JobState.FAILED, "Its driver was killed.")

    def stop(self, submission_id: str) -> None:
        """Ask the run to stop and, if it does not, make it; returns at once."""
        with self._lock:
            name = self._find(submission_id)
            if name is None or name in self._stopping:
                return
            if _read_end(self._directory / name) is not None or not self._supervisor.alive(name):
                return
            (self._directory / name / _STOPPED).touch()
            self._stop_behind(name)

    def tend(self, environment: Mapping[str, str]) -> None:
        """Have as many waiting drivers as there should be, and forget those that ended."""
        with self._lock:
            self._forget()
            waiting = self._waiting()
            wanted = self._wanted(len(waiting))
            for name in waiting[wanted:]:
                self._stop_behind(name)
            now = time.monotonic()
            quiet = now - self._assigned_at >= _REFILL_SECONDS or not self._busy()
            # One at a time: each takes all processors of a small machine while it gets ready.
            getting_ready = not all(map(self._is_ready, waiting))
            if len(waiting) < wanted and quiet and not getting_ready and now >= self._not_before:
                self._start(self._make(), environment)

    def ready(self) -> bool:
        """Whether a run would begin at once."""
        with self._lock:
            return any(map(self._is_ready, self._waiting()))

    def end_all(self) -> None:
        """End every driver and forget all of them: their Ray is gone, or is to go."""
        with self._lock:
            names = {name for name in self._supervisor.names() if name.startswith(_PREFIX)}
            threads = [
                threading.Thread(target=self._supervisor.stop, args=(name,)) for name in names
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for name in names.union(self._names()):
                self._remove(name)

    def _wanted(self, waiting: int) -> int:
        if time.monotonic() - self._used_at > self._reserve.idle_seconds:
            return 0
        available = psutil.virtual_memory().available
        if available < _MEMORY_EACH:
            # One at a time: what the first one frees may be enough.
            return min(self._reserve.drivers, max(0, waiting - 1))
        # A third of what is free at most: the rest is for what people run.
        return min(self._reserve.drivers, waiting + available // (3 * _MEMORY_EACH))

    def _busy(self) -> bool:
        return any(
            _read_end(self._directory / name) is None and self._supervisor.alive(name)
            for name in self._names()
            if (self._directory / name / ASSIGNMENT).exists()
        )

    def _stopped(self, name: str) -> bool:
        return (self._directory / name / _STOPPED).exists()

    def _names(self) -> list[str]:
        if not self._directory.is_dir():
            return []
        return sorted(path.name for path in self._directory.glob(f"{_PREFIX}*"))

    def _unassigned(self) -> Iterator[str]:
        for name in self._names():
            if not (self._directory / name / ASSIGNMENT).exists():
                yield name

    def _waiting(self) -> list[str]:
        """Drivers that can still be given a run."""
        names = (name for name in self._unassigned() if name not in self._stopping)
        return [name for name in names if self._supervisor.alive(name)]

    def _is_ready(self, name: str) -> bool:
        return (self._directory / name / READY).exists()

    def _find(self, submission_id: str) -> str | None:
        for name in self._names():
            with contextlib.suppress(FileNotFoundError):
                text = (self._directory / name / ASSIGNMENT).read_text()
                if Assignment.model_validate_json(text).submission_id == submission_id:
                    return name
        return None

    def _make(self) -> str:
        # The lowest number that is free: names are kept for ever by whoever locks them.
        taken = self._names()
        name = next(n for n in map(f"{_PREFIX}{{}}".format, itertools.count()) if n not in taken)
        directory = self._directory / name
        directory.mkdir(mode=0o700, parents=True)
        os.mkfifo(directory / WAKE, 0o600)
        return name

    def _start(self, name: str, environment: Mapping[str, str]) -> None:
        self._supervisor.start(
            ProcessSpec(
                name=name,
                argv=[sys.executable, "-m", "aiaas_magics.runtime.driver"],
                env={
                    **environment,
                    "AIAAS_DRIVER": str(self._directory / name),
                    "AIAAS_DRIVER_WORKERS": str(self._reserve.workers),
                },
                cwd=self._directory / name,
                grace_seconds=_GRACE_SECONDS,
            )
        )

    def _link(self, name: str, assignment: Assignment) -> bool:
        directory = self._directory / name
        aside = directory / f".{ASSIGNMENT}"
        with aside.open("w") as file:
            file.write(assignment.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, directory / ASSIGNMENT)
        except FileExistsError:
            return False
        with contextlib.suppress(OSError):
            # It looks by itself as well: nobody reads the FIFO yet while it gets ready.
            wake = os.open(directory / WAKE, os.O_WRONLY | os.O_NONBLOCK)
            os.write(wake, b"\n")
            os.close(wake)
        return True

    def _stop_behind(self, name: str) -> None:
        """Stop it without waiting for its grace."""
        self._stopping.add(name)
        threading.Thread(target=self._stop, args=(name,), name=f"stop-{name}").start()

    def _stop(self, name: str) -> None:
        try:
            self._supervisor.stop(name)
        finally:
            with self._lock:
                self._stopping.discard(name)

    def _forget(self) -> None:
        for name in self._names():
            directory = self._directory / name
            if self._supervisor.alive(name) or name in self._stopping:
                if self._is_ready(name):
                    self._failures = 0
                continue
            if not (directory / ASSIGNMENT).exists():
                if not self._is_ready(name):
                    self._died_getting_ready(name)
                self._supervisor.stop(name)
                self._remove(name)
                continue
            ended = directory / _ENDED
            if not ended.exists():
                ended.touch()
            elif time.time() - ended.stat().st_mtime > _KEPT_SECONDS:
                self._supervisor.stop(name)
                self._remove(name)

    def _died_getting_ready(self, name: str) -> None:
        """Try again later and later; what the last one said is kept."""
        self._failures += 1
        pause = min(_RETRY_SECONDS * 2**self._failures, _RETRY_AT_MOST_SECONDS)
        self._not_before = time.monotonic() + pause
        kept = self._supervisor.log_file(f"{_PREFIX}failed")
        with contextlib.suppress(FileNotFoundError):
            self._supervisor.log_file(name).replace(kept)
        log.warning("A driver died before it was ready; see %s", kept)

    @staticmethod
    def _count_start(directory: Path) -> int:
        starts = directory / _STARTS
        count = int(starts.read_text()) + 1 if starts.exists() else 1
        starts.write_text(str(count))
        return count

    def _remove(self, name: str) -> None:
        shutil.rmtree(self._directory / name, ignore_errors=True)
        self._supervisor.log_file(name).unlink(missing_ok=True)


def _read_end(directory: Path) -> DriverEnd | None:
    try:
        return DriverEnd.model_validate_json((directory / END).read_text())
    except FileNotFoundError:
        return None
