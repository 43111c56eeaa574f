"""What a worker's process uses, told to the service every few seconds."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from aiaas_hub.schemas.errors import AiaasError, Unavailable
from aiaas_hub.schemas.jobs import JobUsage
from aiaas_hub.schemas.runs import WorkerUsage

INTERVAL_SECONDS = 5.0
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# What asking the operating system or a driver for figures may raise.
_UNKNOWN = (psutil.Error, OSError, ValueError, RuntimeError)


class UsageSampler:
    """Looks and tells in a thread of its own, from `start` to `close`. A sample that cannot be
    had or sent is left out: the run goes on as if nobody looked."""

    def __init__(
        self,
        send: Callable[[JobUsage], None],
        worker: int,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._send = send
        self._worker = worker
        self._interval = interval
        self._processes: dict[int, psutil.Process] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aiaas-usage", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Not waited for: a sample on its way to a service that is down would hold the run up."""
        self._over.set()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def sample(self) -> WorkerUsage:
        """Processor time since the sample before, and memory now, of this process and its
        children. Raises `psutil.Error` if the operating system does not say."""
        own = psutil.Process()
        living = {own.pid: own} | {child.pid: child for child in own.children(recursive=True)}
        # The same objects as before: each knows the processor time that it had then.
        self._processes = {
            pid: self._processes.get(pid, process) for pid, process in living.items()
        }
        cpu, memory = 0.0, 0
        for process in self._processes.values():
            try:
                cpu += process.cpu_percent()
                memory += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        percent, gpu_memory = _gpu()
        return WorkerUsage(
            worker=self._worker,
            host=socket.gethostname()[:255],
            cpu_percent=cpu,
            memory_bytes=memory,
            memory_total_bytes=_memory_total(),
            gpu_percent=percent,
            gpu_memory_bytes=gpu_memory,
        )

    def _run(self) -> None:
        with contextlib.suppress(*_UNKNOWN):
            self.sample()  # begins the count of processor time
        while not self._over.wait(self._interval):
            try:
                self._send(JobUsage(samples=[self.sample()]))
            except (Unavailable, *_UNKNOWN):
                continue
            except AiaasError:
                # The run is over, or the service does not take it: nothing more to tell.
                return


def _memory_total() -> int:
    total = int(psutil.virtual_memory().total)
    for file in _CONTAINER_LIMITS:
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):  # no such file, or `max`
            continue
    return total


def _gpu() -> tuple[float | None, int | None]:
    """Use in percent and this process's bytes of its GPU, where torch already has one."""
    torch = sys.modules.get("torch")
    # A process that has not touched its GPU yet is not made to, which would cost it memory.
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None, None
    memory = int(torch.cuda.memory_reserved())
    try:
        return float(torch.cuda.utilization()), memory
    except Exception:
        # Of a GPU that is shared, or without NVIDIA's management library; its errors are of no
        # class that torch promises, and none is a reason to say nothing of a worker.
        return None, memory
