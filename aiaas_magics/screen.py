"""Where something that changes is shown: one display that is updated in place, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Protocol


class View(Protocol):
    """What a screen shows; it may look different each time."""

    def html(self) -> str: ...

    def text(self) -> str: ...

    def line(self) -> str:
        """The state in one line, for where nothing can be updated in place."""


class Screen(Protocol):
    def show(self, view: View) -> None: ...


class NotebookScreen:
    """One output of a cell, replaced at each change; what was shown last stays.

    `data`: MIME type → JSON, of the thing itself, for a page that can show it better.
    """

    def __init__(self, data: Mapping[str, object] | None = None) -> None:
        self._data = dict(data or {})
        self._handle: object = None

    def show(self, view: View) -> None:
        from IPython.display import DisplayHandle

        bundle = {**self._data, "text/html": view.html(), "text/plain": view.text()}
        if isinstance(self._handle, DisplayHandle):
            self._handle.update(bundle, raw=True)
            return
        handle = DisplayHandle()
        handle.display(bundle, raw=True)
        self._handle = handle


class LineScreen:
    """A line each time the state's line changes: terminals, scripts and logs."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, view: View) -> None:
        line = view.line()
        if line != self._last:
            self._last = line
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def screen(data: Mapping[str, object] | None = None) -> Screen:
    """The screen for where this code runs; `data` as of `NotebookScreen`."""
    return NotebookScreen(data) if in_kernel() else LineScreen()


def in_kernel() -> bool:
    """Whether a kernel runs this, behind which there may be a page."""
    # Only where IPython runs already: a script does not pay for importing it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
