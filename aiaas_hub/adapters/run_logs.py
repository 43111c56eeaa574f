"""Logs of runs as files, one per run."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from aiaas_hub.schemas.errors import InvalidInput

MAX_LOG_BYTES = 64 << 20
MAX_GAP = 1 << 20


class FileRunLogs:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Two pieces of one log must not be measured and written at the same time.
        self._lock = threading.Lock()

    def append(self, run_id: str, position: int, text: str) -> None:
        data = text.encode()
        path = self._path(run_id)
        with self._lock:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            size = path.stat().st_size if path.exists() else 0
            gap = position - size
            if gap > MAX_GAP:
                raise InvalidInput("The log's offset lies far beyond its end.")
            if size >= MAX_LOG_BYTES:
                return
            data = _marker(gap) + data if gap > 0 else data[-gap:]
            if not data:
                return
            if size + len(data) > MAX_LOG_BYTES:
                data = data[: MAX_LOG_BYTES - size - len(_FULL)] + _FULL
            with path.open("ab") as file:
                file.write(data)

    def size(self, run_id: str) -> int:
        path = self._path(run_id)
        return path.stat().st_size if path.exists() else 0

    def read(self, run_id: str, offset: int, limit: int) -> tuple[str, int]:
        path = self._path(run_id)
        if not path.exists():
            return "", offset
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(limit)
            if file.tell() < os.fstat(file.fileno()).st_size:
                data = _whole_characters(data)
        return data.decode(errors="replace"), offset + len(data)

    def _path(self, run_id: str) -> Path:
        return self._directory / run_id / "run.log"


_FULL = b"\n[the log is full: what follows is not kept]\n"


def _marker(gap: int) -> bytes:
    """Exactly `gap` bytes that say that as many are missing: offsets stay true."""
    return f"[{gap} bytes of the log were lost]".encode()[: gap - 1].ljust(gap - 1) + b"\n"


def _whole_characters(data: bytes) -> bytes:
    """`data` without a character that was cut at its end (UTF-8: RFC 3629)."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if back >= length else data[:-back]
    return data
