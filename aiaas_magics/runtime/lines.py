"""Output in whole lines: two writers of one log never tear each other's."""

from __future__ import annotations

import contextlib
import sys
import time

MAX_LINE = 64 * 1024
"""Bytes after which a line is broken, so that output without an end is not kept for ever."""
SILENCE_SECONDS = 1.0
"""After so long without output a line that has no end yet is taken as it is."""


def take_any_text() -> None:
    """Let stdout and stderr write what is no valid text (half of a surrogate pair, as in names of
    files) as `\\udc80`: whatever the locale, a `print` for the log fails no run."""
    for stream in (sys.stdout, sys.stderr):
        # Either may be absent, closed or replaced in a process without a terminal.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class LineJoiner:
    """Turns pieces of one worker's output into whole lines with a prefix.

    A line that was redrawn with carriage returns, like a progress bar, counts as it was last.
    """

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._rest = b""
        self.heard = time.monotonic()

    def feed(self, data: bytes) -> bytes:
        """The lines that are whole now."""
        self.heard = time.monotonic()
        body, newline, rest = (self._rest + data).rpartition(b"\n")
        if len(rest) > MAX_LINE:
            body, newline, rest = body + newline + rest, b"\n", b""
        self._rest = rest
        return self._lines(body) if newline else b""

    def end(self) -> bytes:
        """What waited for the rest of its line."""
        rest, self._rest = self._rest, b""
        return self._lines(rest) if rest else b""

    def _lines(self, body: bytes) -> bytes:
        if b"\r" in body:
            lines = body.replace(b"\r\n", b"\n").split(b"\n")
            body = b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines)
        if self._prefix:
            body = self._prefix + body.replace(b"\n", b"\n" + self._prefix)
        return body + b"\n"
