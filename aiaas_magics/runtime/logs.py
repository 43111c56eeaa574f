"""The run's log: everything that reaches the driver's stdout and stderr, sent to the service.

Captured at the file descriptors, so that C code and Ray's forwarding of the workers' output
are in it too. The run is never held up by its log: what comes faster than the service takes it
waits in bounded memory, and a flood is cut with a line that says how much is missing, its
latest part kept.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.schemas.jobs import JobLog
from aiaas_magics.runtime.api import FLUSH_SECONDS
from aiaas_magics.runtime.lines import SILENCE_SECONDS, LineJoiner, take_any_text

RATE = 512 * 1024
"""Bytes a second that a run may log for long."""
BURST = 4 * 1024 * 1024
CAPACITY = 16 * 1024 * 1024
"""Bytes kept for a service that is down."""
TAIL = 64 * 1024
"""Bytes of the latest output that are kept of a flood."""
PIECE = 512 * 1024
_PIPE_SIZE = 1 << 20
_INTERVAL_SECONDS = 0.25
_FLOOD_INTERVAL_SECONDS = 1.0


class LogBuffer:
    """Turns a stream of bytes into numbered pieces of text, cutting floods. One lock inside."""

    def __init__(
        self,
        *,
        rate: int = RATE,
        burst: int = BURST,
        capacity: int = CAPACITY,
        tail: int = TAIL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst, self._capacity, self._tail_limit = rate, burst, capacity, tail
        self._clock = clock
        self._allowance = float(burst)
        self._at = clock()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending: deque[bytes] = deque()
        self._in_flight = b""
        self._pending_size = 0
        """Bytes of `_pending` and `_in_flight`."""
        self._offset = 0
        self._cutting = False
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._left_out_bytes = 0
        self._left_out_lines = 0
        self._lock = threading.Lock()

    def feed(self, data: bytes, *, final: bool = False) -> None:
        with self._lock:
            # A character may be split between two reads; the decoder waits for its rest.
            encoded = self._decoder.decode(data, final).encode()
            self._refill()
            if not self._cutting:
                fits = self._fitting(encoded)
                self._emit(encoded[:fits])
                encoded = encoded[fits:]
            if encoded:
                self._cutting = True
                self._keep(encoded)
            if self._cutting and (final or self._calm()):
                self._end_cut()

    def peek(self, limit: int = PIECE) -> JobLog | None:
        """The next piece to send; the same one again until `confirm`."""
        with self._lock:
            self._refill()
            if self._cutting and self._calm():
                self._end_cut()
            if not self._in_flight:
                parts: list[bytes] = []
                size = 0
                while self._pending and (not parts or size + len(self._pending[0]) <= limit):
                    parts.append(self._pending.popleft())
                    size += len(parts[-1])
                self._in_flight = b"".join(parts)
            if not self._in_flight:
                return None
            return JobLog(offset=self._offset, text=self._in_flight.decode())

    @property
    def confirmed(self) -> int:
        """Bytes that have arrived."""
        return self._offset

    @property
    def end(self) -> int:
        """Bytes to arrive, of all that was fed so far; without a flood's part that may be cut."""
        with self._lock:
            return self._offset + self._pending_size

    def confirm(self) -> None:
        """The piece last peeked at has arrived."""
        with self._lock:
            self._pending_size -= len(self._in_flight)
            self._offset += len(self._in_flight)
            self._in_flight = b""

    def _refill(self) -> None:
        now = self._clock()
        self._allowance = min(self._burst, self._allowance + (now - self._at) * self._rate)
        self._at = now

    def _room(self) -> int:
        return int(min(self._allowance, self._capacity - self._pending_size))

    def _fitting(self, encoded: bytes) -> int:
        room = self._room()
        if len(encoded) <= room:
            return len(encoded)
        return encoded.rfind(b"\n", 0, max(room, 0)) + 1

    def _calm(self) -> bool:
        """There is room again for the tail and for more than a moment after it."""
        return self._room() >= min(self._tail_size + self._rate // 2, self._burst)

    def _keep(self, encoded: bytes) -> None:
        self._tail.append(encoded)
        self._tail_size += len(encoded)
        while len(self._tail) > 1 and self._tail_size - len(self._tail[0]) >= self._tail_limit:
            self._leave_out(self._tail.popleft())

    def _leave_out(self, encoded: bytes) -> None:
        self._tail_size -= len(encoded)
        self._left_out_bytes += len(encoded)
        self._left_out_lines += encoded.count(b"\n")

    def _end_cut(self) -> None:
        tail = b"".join(self._tail)
        self._tail.clear()
        self._tail_size = len(tail)
        if len(tail) > self._tail_limit:
            cut = tail.find(b"\n", len(tail) - self._tail_limit) + 1
            cut = cut or _character_boundary(tail, len(tail) - self._tail_limit)
            self._leave_out(tail[:cut])
            tail = tail[cut:]
        if self._left_out_bytes:
            notice = (
                f"\n[aiaas] {self._left_out_lines} lines ({self._left_out_bytes / 1e6:.1f} MB) are "
                "left out here: they came faster than the log takes them.\n"
            )
            self._emit(notice.encode())
        self._emit(tail)
        self._cutting = False
        self._tail_size = self._left_out_bytes = self._left_out_lines = 0

    def _emit(self, encoded: bytes) -> None:
        for start in _cuts(encoded, PIECE):
            self._pending.append(start)
        self._pending_size += len(encoded)
        self._allowance -= len(encoded)


def _character_boundary(encoded: bytes, at: int) -> int:
    """The first index not before `at` where a UTF-8 character begins."""
    while at < len(encoded) and encoded[at] & 0xC0 == 0x80:
        at += 1
    return at


def _cuts(encoded: bytes, size: int) -> list[bytes]:
    parts = []
    start = 0
    while start < len(encoded):
        end = _character_boundary(encoded, min(start + size, len(encoded)))
        parts.append(encoded[start:end])
        start = end
    return parts


class LogShipper:
    """Sends this process's stdout and stderr, and what is given to `write`, until `close`."""

    def __init__(self, send: Callable[[JobLog], None], buffer: LogBuffer | None = None) -> None:
        self._send = send
        self._buffer = buffer or LogBuffer()
        self._lines = LineJoiner(b"")
        self._closing = threading.Event()
        self._drained = threading.Event()
        self._wake = threading.Event()
        self._arrived = threading.Condition()
        self._late = False
        self._heard = time.monotonic()
        self._words = b""
        self._words_lock = threading.Lock()
        _flush_python()
        take_any_text()
        self._original = os.dup(1), os.dup(2)
        self._out, write_end = os.pipe()
        os.set_blocking(self._out, False)
        enlarge(write_end)
        os.dup2(write_end, 1)
        os.dup2(write_end, 2)
        os.close(write_end)
        self._reader = threading.Thread(target=self._read, name="aiaas-log-reader", daemon=True)
        self._sender = threading.Thread(target=self._ship, name="aiaas-log-sender", daemon=True)
        self._reader.start()
        self._sender.start()

    def write(self, lines: bytes) -> None:
        """Add whole lines from elsewhere."""
        if lines:
            self._buffer.feed(lines)
            with self._words_lock:
                self._words = (self._words + lines)[-TAIL:]

    @property
    def last_words(self) -> str:
        """The latest lines: what a worker said that died may explain it."""
        return self._words.decode(errors="replace")

    def forget_words(self) -> None:
        with self._words_lock:
            self._words = b""

    def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Return once the log so far is with the service, or after `timeout` seconds; once it was
        too late, nobody waits any more until the service answers again."""
        if self._late:
            return
        end = self._buffer.end
        self._wake.set()
        with self._arrived:
            self._late = not self._arrived.wait_for(lambda: self._buffer.confirmed >= end, timeout)

    def settle(self, quiet: float = 0.3, limit: float = 3) -> None:
        """Wait until nothing new has come for `quiet` seconds, at most `limit`.

        Workers' last words take a moment through Ray.
        """
        until = time.monotonic() + limit
        while time.monotonic() < until and time.monotonic() - self._heard < quiet:
            time.sleep(0.05)

    def close(self, timeout: float = 60) -> None:
        """Give stdout and stderr back and send what is left, waiting at most `timeout`."""
        _flush_python()
        os.dup2(self._original[0], 1)
        os.dup2(self._original[1], 2)
        self._closing.set()
        self._reader.join(timeout)
        self._drained.set()
        self._wake.set()
        self._sender.join(timeout)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._out], [], [], _INTERVAL_SECONDS)
            if ready:
                data = os.read(self._out, _PIPE_SIZE)
                if data:
                    self._heard = time.monotonic()
                    self.write(self._lines.feed(data))
                    continue
            if time.monotonic() - self._heard > SILENCE_SECONDS:
                self.write(self._lines.end())
            # A child may hold the pipe open for ever: empty is the end once we are closing.
            if ready or self._closing.is_set():
                break
        self._buffer.feed(self._lines.end(), final=True)

    def _ship(self) -> None:
        while True:
            # Cleared first: who wakes us from here on is served by another round.
            self._wake.clear()
            last_round = self._drained.is_set()
            before, end = self._buffer.confirmed, self._buffer.end
            while (piece := self._buffer.peek()) is not None:
                try:
                    self._send(piece)
                except AiaasError as error:
                    note = f"[aiaas] The log is not sent any more: {error}\n"
                    os.write(self._original[1], note.encode())
                    return
                with self._arrived:
                    self._buffer.confirm()
                    self._late = False
                    self._arrived.notify_all()
                # What came meanwhile is no piece of its own.
                if self._buffer.confirmed >= end and not last_round:
                    break
            if last_round:
                return
            self._wake.wait(pause_after(self._buffer.confirmed - before))


def pause_after(sent: int) -> float:
    """Seconds until more is sent after a round of `sent` bytes.

    Each piece costs the service and those who watch some ten milliseconds, which a run on the same
    machine feels. Nobody reads along with a flood, so that it may come in fewer pieces.
    """
    return _FLOOD_INTERVAL_SECONDS if sent > TAIL else _INTERVAL_SECONDS


def enlarge(pipe: int) -> None:
    """Let a pipe hold more than is usual, so that its writer waits less often for its reader."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux alone has it
        # Larger is only better; an unprivileged limit is fine.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


def _flush_python() -> None:
    for stream in (sys.stdout, sys.stderr):
        # Either may be absent or closed in a process without a terminal.
        with contextlib.suppress(AttributeError, ValueError):
            stream.flush()
