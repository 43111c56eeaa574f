"""The last lines of a run's log, by worker."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import display

KEPT_LINES = 8
_LINE_LENGTH = 400
_MOST_WORKERS = 1024
# Of one piece of the log no more is looked at: what came before is past the tail.
_LOOKED_AT = 2000

PLATFORM = 1_000_000
"""In place of a worker's rank: the platform's own lines, which come after every worker's."""
_PREFIX = re.compile(r"\[(aiaas|\d{1,4})\] ")


class LogTail:
    """Keeps a few lines of each worker. A run with one worker has no prefixes, and one tail."""

    def __init__(self, workers: int) -> None:
        self._several = workers > 1
        self._lines: dict[int, deque[str]] = {}
        self._partial = ""

    def take(self, text: str) -> None:
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole[-_LOOKED_AT:]:
            worker, said = worker_of(line) if self._several else (0, line)
            shown = _shown(said)[:_LINE_LENGTH]
            if shown.strip() and (worker in self._lines or len(self._lines) < _MOST_WORKERS):
                self._lines.setdefault(worker, deque(maxlen=KEPT_LINES)).append(shown)
        self._partial = self._partial[-_LINE_LENGTH:]

    def tails(self) -> dict[int, str]:
        """Worker → its last lines, by rank."""
        tails = {worker: list(lines) for worker, lines in self._lines.items()}
        worker, said = worker_of(self._partial) if self._several else (0, self._partial)
        if _shown(said).strip():
            tails.setdefault(worker, []).append(_shown(said))
        return {worker: "\n".join(tails[worker]) for worker in sorted(tails)}


def worker_of(line: str) -> tuple[int, str]:
    """Whose line it is, and the line without the prefix that says so. A line that nobody signed
    is the platform's: Ray's, or a library's from before the worker had its rank."""
    found = _PREFIX.match(line)
    if found is None:
        return PLATFORM, line
    rank = PLATFORM if found[1] == "aiaas" else int(found[1])
    return rank, line[found.end() :]


def of_worker(text: str, worker: int | None, workers: int) -> str:
    """The lines of one worker, or the text as it is for None.

    Raises `InvalidInput` if the run has no such worker.
    """
    if worker is None:
        return text
    check_worker(worker, workers)
    if workers == 1:
        return text
    return "".join(_own(text.splitlines(keepends=True), worker))


def check_worker(worker: int, workers: int) -> None:
    """Raise `InvalidInput` if a run with so many workers has none of this rank."""
    if not 0 <= worker < workers:
        has = "worker 0 only" if workers == 1 else f"workers 0 to {workers - 1}"
        raise InvalidInput(f"There is no worker {worker}.", remedy=f"The run has {has}.")


def _own(lines: Iterable[str], worker: int) -> Iterator[str]:
    for line in lines:
        rank, said = worker_of(line)
        if rank == worker:
            yield said


def _shown(line: str) -> str:
    # A progress bar writes its line again and again, each time after a return.
    return display.clean(line.rstrip("\r").rpartition("\r")[2])
