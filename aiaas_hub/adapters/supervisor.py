"""Starts, adopts and stops the engines' processes.

Every engine is the leader of a session of its own, so that whatever it forks can be found and
ended with it. A record file per process outlives the supervisor: after a crash of the platform
the next one adopts what still runs instead of starting it twice. Adopted processes are not our
children, so everything is asked of the kernel through psutil, never of `subprocess` alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from aiaas_hub.home import write_private
from aiaas_hub.schemas.errors import Unavailable

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.02
_KILL_WAIT_SECONDS = 5.0
_LOG_END_BYTES = 20_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessSpec:
    """What to run. `name` is the identity: one process per name."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    """The whole environment; nothing is inherited. It is never written anywhere."""
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10
    """How long it may take to stop before it is killed."""
    leaves: Sequence[str] = ()
    """Glob patterns of files that it leaves when it is killed: removed once it is gone."""
    starts_sessions: bool = False
    """It starts programs in sessions of their own, which are to end with it."""


@dataclass(frozen=True)
class Process:
    """A process that this supervisor, or one before it, started."""

    name: str
    pid: int
    adopted: bool = False
    """True if it was found running rather than started by this call."""


@dataclass(frozen=True)
class _Record:
    pid: int
    born: str
    """With `pid` it names one process for ever; see `_born`."""
    pgid: int
    sid: int
    stop_signal: int
    grace_seconds: float
    leaves: tuple[str, ...] = ()
    starts_sessions: bool = False


class Supervisor:
    """Keeps processes by name. Calls for different names do not wait for each other.

    Several threads may use one supervisor, and several processes may have one each on the same
    records: a name is locked among all of them.
    """

    def __init__(self, records: Path, logs: Path) -> None:
        self._records = records
        self._logs = logs
        self._children: dict[str, int] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def start(self, spec: ProcessSpec) -> Process:
        """Start the process, or adopt it if it runs already.

        Raises `Unavailable` if the program cannot be executed.
        """
        with self._lock(spec.name):
            record = self._read(spec.name)
            if record is not None:
                if self._runs(spec.name, record):
                    return Process(spec.name, record.pid, adopted=True)
                # The leader is gone; what it left behind would hold its ports and memory.
                self._end(spec.name, record)
            return self._spawn(spec)

    def alive(self, name: str) -> bool:
        with self._lock(name):
            record = self._read(name)
            return record is not None and self._runs(name, record)

    def process(self, name: str) -> Process | None:
        """The live process of this name."""
        with self._lock(name):
            record = self._read(name)
            if record is None or not self._runs(name, record):
                return None
            return Process(name, record.pid, adopted=name not in self._children)

    def stop(self, name: str) -> None:
        """End the process, everything in its group and session, and the sessions it started if
        its specification says so; a repeat does nothing."""
        with self._lock(name):
            record = self._read(name)
            if record is not None:
                self._end(name, record)

    def stop_all(self) -> None:
        """End every recorded process, side by side: the slowest one's grace is all it takes."""
        threads = [
            threading.Thread(target=self.stop, args=(name,), name=f"stop-{name}")
            for name in self.names()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def names(self) -> list[str]:
        """Names with a record, whether their process still lives or not."""
        if not self._records.is_dir():
            return []
        return sorted(path.stem for path in self._records.glob("*.json"))

    def log_file(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def last_lines(self, name: str, count: int = 12) -> list[str]:
        """The end of its log; none if it wrote nothing yet."""
        try:
            with self.log_file(name).open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - _LOG_END_BYTES))
                return log.read().decode(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock, (self._records / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _record_file(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _read(self, name: str) -> _Record | None:
        try:
            return _Record(**json.loads(self._record_file(name).read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            # Nothing can be ended by guessing: say so and let the new process find its port taken.
            log.error("%s is not a process record: %s", self._record_file(name), error)
            return None

    def _spawn(self, spec: ProcessSpec) -> Process:
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        output = os.open(self.log_file(spec.name), flags, 0o600)
        try:
            child = subprocess.Popen(  # noqa: S603 - argv is the adapters' own, never a user's
                list(spec.argv),
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(
                f"{spec.name} cannot be started: {error}.",
                remedy="Run `aiaas doctor` to see what is missing.",
            ) from error
        finally:
            os.close(output)
        pid = child.pid
        # It may outlive this object and this process, which Popen would complain about: from
        # here on only its number is known, and it is reaped by `_runs`.
        child.returncode = 0
        record = _Record(
            pid=pid,
            # Not reaped yet, so the number is still its own even if it has ended already.
            born=_born(pid) or "",
            pgid=pid,
            sid=pid,
            stop_signal=int(spec.stop_signal),
            grace_seconds=spec.grace_seconds,
            leaves=tuple(spec.leaves),
            starts_sessions=spec.starts_sessions,
        )
        try:
            write_private(self._record_file(spec.name), json.dumps(record.__dict__) + "\n")
        except BaseException:
            # Without a record nobody would ever find it again.
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._children[spec.name] = pid
        log.info("started %s as process %d", spec.name, pid)
        return Process(spec.name, pid)

    def _runs(self, name: str, record: _Record) -> bool:
        if self._children.get(name) == record.pid:
            # Dead children stay as zombies until somebody asks for them.
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(record.pid, os.WNOHANG)[0]:
                    del self._children[name]
        return _is_live(record.pid, record.born)

    def _end(self, name: str, record: _Record) -> None:
        deadline = time.monotonic() + record.grace_seconds
        # Looked for now: once their parents are gone nothing tells whose they are.
        strays = _descendants(_members(record)) if record.starts_sessions else []
        if self._runs(name, record):
            _signal_group(record, signal.Signals(record.stop_signal))
            while self._runs(name, record) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        elif members := _members(record):
            _signal_each(members, signal.Signals(record.stop_signal))
        # Helpers that got the signal with their leader may need a moment longer than it.
        while (members := _members(record)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        _signal_each(strays, signal.SIGKILL)
        psutil.wait_procs(strays, timeout=_KILL_WAIT_SECONDS)
        killed = time.monotonic() + _KILL_WAIT_SECONDS
        while members and time.monotonic() < killed:
            _signal_each(members, signal.SIGKILL)
            self._runs(name, record)
            time.sleep(_POLL_SECONDS)
            members = _members(record)
        if members:
            pids = ", ".join(str(process.pid) for process in members)
            raise Unavailable(
                f"{name} does not stop: process {pids} is still there.",
                remedy="End it by hand, then try again.",
            )
        for pattern in record.leaves:
            for path in glob.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        self._record_file(name).unlink(missing_ok=True)
        log.info("stopped %s", name)


def _boot() -> str:
    """Names this boot of the machine. Process numbers mean nothing beyond it."""
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    return str(psutil.boot_time())


def _born(pid: int) -> str | None:
    """When the process began, in a form that no later process of this number shares.

    On Linux it is the kernel's own count since boot: the creation time in seconds that psutil
    offers moves whenever the machine's clock is set.
    """
    try:
        if _BOOT_ID.exists():
            # The second field is the program's name and may hold spaces and brackets.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return f"{_boot()} {fields[19]}"
        return f"{_boot()} {psutil.Process(pid).create_time()}"
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return None


def _is_live(pid: int, born: str) -> bool:
    try:
        return _born(pid) == born and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _members(record: _Record) -> list[psutil.Process]:
    """Live processes of the recorded group or session, the leader among them.

    The kernel gives no new process the number of a living group or session. So if a stranger
    has our leader's number now, or the machine has booted since, nothing of ours is left.
    """
    if not record.born.startswith(_boot()) or _born(record.pid) not in (None, record.born):
        return []
    found = []
    for process in psutil.process_iter():
        try:
            pgid, sid = os.getpgid(process.pid), os.getsid(process.pid)
            ours = pgid == record.pgid or sid == record.sid
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return found


def _descendants(members: Sequence[psutil.Process]) -> list[psutil.Process]:
    """What these have started in groups and sessions other than theirs."""
    found: set[psutil.Process] = set()
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(member.children(recursive=True))
    return list(found.difference(members))


def _signal_group(record: _Record, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(record.pgid, number)


def _signal_each(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        # psutil compares the creation time first: a number taken over by a stranger is spared.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
