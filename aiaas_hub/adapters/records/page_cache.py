"""Pages of a list as they were last read, for as long as nothing that they are made of changes.

Panels ask for the same page every few seconds, each user for their own; datasets change seldom.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class PageCache(Generic[T]):
    """At most `most` pages, of which the one that was asked for longest ago goes first.

    `changes` counts the changes that are committed. It is asked before a page is read: one that is
    read while something changes is kept under the count before, and never answered.
    """

    def __init__(self, changes: Callable[[], int], most: int) -> None:
        self._changes = changes
        self._most = most
        self._pages: OrderedDict[Hashable, tuple[int, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """What was read under this key since the last change, or what `read` gives now."""
        changes = self._changes()
        with self._lock:
            kept = self._pages.get(key)
            if kept is not None and kept[0] == changes:
                self._pages.move_to_end(key)
                return kept[1]
        page = read()
        with self._lock:
            self._pages[key] = (changes, page)
            self._pages.move_to_end(key)
            while len(self._pages) > self._most:
                self._pages.popitem(last=False)
        return page
