"""Live state: changes wake those who watch, as server-sent events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

import anyio.to_thread
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from aiaas_hub.schemas.errors import TooMany, Unauthenticated

COALESCE_SECONDS = 0.25
"""A burst of changes becomes one event."""
FALLBACK_SECONDS = 5.0
"""Another replica's changes do not wake us: so often the records are read anyway."""


class Live:
    """The `Notifier` port for one process: threads notify, coroutines wait.

    `max_streams`: how many streams one user may have open.
    """

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._streams: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = (
            defaultdict(set)
        )

    def notify(self, topic: str) -> None:
        with self._lock:
            waiters = list(self._waiting.get(topic, ()))
        for loop, event in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def subscribe(self, topic: str) -> Subscription:
        return Subscription(self, topic)

    def require_room(self, user: str) -> None:
        """Raise `TooMany` if the user has as many streams open as may be."""
        if self._streams[user] >= self._max_streams:
            raise TooMany(
                f"You watch {self._max_streams} things at the same time already.",
                remedy="Close a notebook or a panel that shows a live run, then try again.",
            )

    @contextmanager
    def streaming(self, user: str) -> Iterator[None]:
        """Count an open stream."""
        self._streams[user] += 1
        try:
            yield
        finally:
            self._streams[user] -= 1
            if not self._streams[user]:
                del self._streams[user]

    def _add(self, topic: str, entry: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._waiting[topic].add(entry)

    def _remove(self, topic: str, entry: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._waiting[topic].discard(entry)
            if not self._waiting[topic]:
                del self._waiting[topic]


class Subscription:
    def __init__(self, live: Live, topic: str) -> None:
        self._live = live
        self._topic = topic
        self._entry = (asyncio.get_running_loop(), asyncio.Event())

    def __enter__(self) -> Subscription:
        self._live._add(self._topic, self._entry)
        return self

    def __exit__(self, *_: object) -> None:
        self._live._remove(self._topic, self._entry)

    async def changed(self) -> None:
        """Return at the next change, or after `FALLBACK_SECONDS`."""
        event = self._entry[1]
        try:
            await asyncio.wait_for(event.wait(), FALLBACK_SECONDS)
            await asyncio.sleep(COALESCE_SECONDS)
        except TimeoutError:
            pass
        event.clear()


REIDENTIFY_SECONDS = 30.0
"""So often a stream asks whether its token still holds."""


class Next(Enum):
    """When to look again."""

    CHANGE = auto()
    AT_ONCE = auto()
    """There is more than one look brings."""
    NEVER = auto()


Look = Callable[[], tuple[list[tuple[str, BaseModel]], Next]]
"""What is new since the last look, as named events, and when there may be more."""


def stream(
    live: Live, user: str, topic: str, look: Look, identify: Callable[[], Awaitable[object]]
) -> EventSourceResponse:
    """Events of one object until `look` says that there will be none, or until `identify`
    raises `Unauthenticated`. Raises `TooMany` where the user has too many open."""
    live.require_room(user)

    async def events() -> AsyncIterator[Any]:
        identified = time.monotonic()
        with live.streaming(user), live.subscribe(topic) as subscription:
            while True:
                if time.monotonic() - identified > REIDENTIFY_SECONDS:
                    try:
                        await identify()
                    except Unauthenticated:
                        return
                    identified = time.monotonic()
                found, then = await anyio.to_thread.run_sync(look)
                for name, model in found:
                    yield ServerSentEvent(event=name, data=model.model_dump_json())
                if then is Next.NEVER:
                    return
                if then is Next.CHANGE:
                    await subscription.changed()

    return EventSourceResponse(events(), ping=15)
