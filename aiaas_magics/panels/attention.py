"""Asking again and again, only while somebody looks; and asking back before something is ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from traitlets import Bool, HasTraits, Unicode

from aiaas_magics.panels.background import Background

PATIENCE = 90.0
"""Seconds without a sign of a page that is seen, which gives one every 20."""
WHY = "in the deploy panel"
"""For an endpoint's history."""


class Attended(HasTraits):
    """A view-model that is kept up to date while it is looked at."""

    paused = Bool()
    """Nobody looks, and nothing is asked for."""
    error = Unicode()

    def __init__(self, beside: Background) -> None:
        super().__init__()
        self.beside = beside
        # Who has just made it looks at it.
        self._seen_at = time.monotonic()

    def seen(self, visible: bool) -> None:
        """What a page says of itself: it can be seen, or not any more."""
        if not visible:
            self._seen_at = float("-inf")
            return
        self._seen_at = time.monotonic()
        if self.paused:
            self.paused = False
            self.refresh()

    def refresh(self) -> None:
        """Ask for what is shown, and again after a while."""
        raise NotImplementedError

    def again(self, slot: str, seconds: float, call: Callable[[], None]) -> None:
        """Call it after a while if somebody looks by then; else once somebody does."""

        def if_seen() -> None:
            if time.monotonic() - self._seen_at > PATIENCE:
                self.paused = True
            else:
                call()

        self.beside.later(slot, seconds, if_seen)

    def failed(self, sentence: str) -> None:
        self.error = sentence


class Asking(HasTraits):
    """Asks back before something is done that callers or runs would notice."""

    question = Unicode()
    """What is about to be done; empty: nothing is."""

    _yes: Callable[[], None] | None = None

    def ask(self, question: str, yes: Callable[[], None]) -> None:
        self._yes = yes
        self.question = question

    def confirm(self) -> None:
        yes, self._yes = self._yes, None
        self.question = ""
        if yes is not None:
            yes()

    def decline(self) -> None:
        self._yes = None
        self.question = ""
