"""Calls to the service beside the kernel's main thread; what they bring is taken on it.

A widget's callback runs where cells run. It must not wait for the network, and no other thread may
touch a widget.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol, TypeVar

from pydantic import ValidationError

from aiaas_hub.schemas.errors import AiaasError
from aiaas_magics.errors import invalid

T = TypeVar("T")
log = logging.getLogger(__name__)


class Background(Protocol):
    """Of each `slot` only the newest call counts: what older ones bring is dropped."""

    def run(
        self,
        slot: str,
        call: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[str], None],
    ) -> None:
        """`failed` takes a sentence and a remedy."""

    def follow(
        self,
        slot: str,
        call: Callable[[], Iterator[T]],
        each: Callable[[T], None],
        failed: Callable[[str], None],
    ) -> None:
        """The same for something that goes on; it is left once a newer call has the slot."""

    def later(self, slot: str, seconds: float, call: Callable[[], None]) -> None:
        """Call it once, unless something else takes the slot before."""

    def close(self) -> None:
        """Nothing is called any more."""


class AtOnce:
    """Where nothing goes on beside: in a terminal, and for what a cell shows first."""

    def run(
        self,
        slot: str,
        call: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[str], None],
    ) -> None:
        try:
            value = call()
        except Exception as error:  # whatever it is, it is said where the user looks
            failed(said(error))
        else:
            done(value)

    def follow(
        self,
        slot: str,
        call: Callable[[], Iterator[T]],
        each: Callable[[T], None],
        failed: Callable[[str], None],
    ) -> None:
        def all_of_it() -> None:
            for value in call():
                each(value)

        self.run(slot, all_of_it, lambda _: None, failed)

    def later(self, slot: str, seconds: float, call: Callable[[], None]) -> None:
        """Never: nobody looks here a second time."""

    def close(self) -> None: ...


class KernelLoop:
    """In threads, whose results are taken by the kernel's own event loop between its cells."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._newest: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    def run(
        self,
        slot: str,
        call: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[str], None],
    ) -> None:
        number = self._claim(slot)

        def work() -> None:
            try:
                value = call()
            except Exception as error:  # whatever it is, it is said where the user looks
                self._hand_over(slot, number, failed, said(error))
            else:
                self._hand_over(slot, number, done, value)

        self._start(slot, work)

    def follow(
        self,
        slot: str,
        call: Callable[[], Iterator[T]],
        each: Callable[[T], None],
        failed: Callable[[str], None],
    ) -> None:
        number = self._claim(slot)

        def work() -> None:
            try:
                for value in call():
                    if self._is_over(slot, number):
                        return
                    self._hand_over(slot, number, each, value)
            except Exception as error:  # likewise
                self._hand_over(slot, number, failed, said(error))

        self._start(slot, work)

    def later(self, slot: str, seconds: float, call: Callable[[], None]) -> None:
        before = self._timers.pop(slot, None)
        if before is not None:
            before.cancel()
        if not self._closed:
            self._timers[slot] = self._loop.call_later(seconds, call)

    def close(self) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _claim(self, slot: str) -> int:
        number = self._newest[slot] = self._newest.get(slot, 0) + 1
        return number

    def _start(self, slot: str, work: Callable[[], None]) -> None:
        if not self._closed:
            # As a daemon: a kernel that is shut down does not wait for the network.
            threading.Thread(target=work, name=f"aiaas-panel-{slot}", daemon=True).start()

    def _hand_over(self, slot: str, number: int, take: Callable[[T], None], value: T) -> None:
        def on_the_loop() -> None:
            if not self._is_over(slot, number):
                take(value)

        # The loop may be closed by now: the kernel ends.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(on_the_loop)

    def _is_over(self, slot: str, number: int) -> bool:
        return self._closed or self._newest.get(slot) != number


def said(error: Exception) -> str:
    """What a user should read of it."""
    if isinstance(error, ValidationError):
        error = invalid(error)
    if isinstance(error, AiaasError):
        return str(error)
    log.warning("A panel failed", exc_info=error)
    return f"This did not work: {type(error).__name__}: {error}. Run the cell again."
