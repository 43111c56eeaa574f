"""Find and end the processes of one local platform, whoever started them.

Every process of a platform has a variable that names the platform's home: hub, proxy, service,
engines, users' servers, their kernels, and what those start. So the next `aiaas up` can clear away
what a killed one left, and the end of this one leaves nothing behind, even if the process in
between is gone and no record tells of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from aiaas_hub.home import MARKER


def marker_of(home: Path) -> str:
    """The variable's value for this home: the same for every path that leads to it."""
    return hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:24]


def find_processes(marker: str) -> list[psutil.Process]:
    """Processes of the platform, without this one and those it runs under."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        try:
            if process.environ().get(MARKER) == marker:
                found.append(process)
        except (psutil.Error, OSError):
            # Another user's, or just gone: not ours either way.
            continue
    return found


def end_processes(
    processes: Sequence[psutil.Process], *, patience: float = 10
) -> list[psutil.Process]:
    """Ask them to stop, kill after `patience` seconds; those that lived on, should there be any."""
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        _signal(process, kill=True)
    _, alive = psutil.wait_procs(alive, timeout=5)
    return list(alive)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        pass
