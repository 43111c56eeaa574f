"""A controller's loop: the objects of one path are looked at again and again."""

from __future__ import annotations

import threading
from typing import Self

from .api import KubeApi, Object

PERIOD_SECONDS = 0.3


class Controller:
    """Use as a context manager; it watches one namespace."""

    def __init__(self, api: KubeApi, path: str) -> None:
        """`path`: of the objects that it looks at."""
        self._api = api
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _loop(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            # As a controller does: whatever went wrong is tried again.
            try:
                for one in self._api.items(self._path):
                    self._reconcile(one)
            except Exception as error:
                self.failures.append(repr(error))

    def _reconcile(self, one: Object) -> None:
        """Make of it what it asks for."""
        raise NotImplementedError
