"""So many at a time of what is expensive: for each user, and for all together."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiaas_hub.schemas.errors import TooMany, Unavailable

_LOOK_SECONDS = 0.2


class Turns:
    def __init__(self, per_user: int, in_all: int, what: str) -> None:
        self._per_user = per_user
        self._free = threading.Semaphore(in_all)
        self._what = what
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def turn(self, user: str, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Wait for a turn. Raises `TooMany` where this user has as many as one may, waiting ones
        included, and `Unavailable` once `cancelled` is true."""
        with self._lock:
            if self._taken[user] >= self._per_user:
                raise TooMany(
                    f"You have {self._per_user} {self._what} under way, which is as many as one "
                    "may have here.",
                    remedy="Wait for one of them, or interrupt it.",
                )
            self._taken[user] += 1
        try:
            while not self._free.acquire(timeout=_LOOK_SECONDS):
                if cancelled():
                    raise Unavailable("Nobody waits for this any more.", remedy="Ask again.")
            try:
                yield
            finally:
                self._free.release()
        finally:
            with self._lock:
                self._taken[user] -= 1
                if not self._taken[user]:
                    del self._taken[user]
