"""Uploads that come in pieces, kept across restarts until they are whole or forgotten."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aiaas_hub.schemas.errors import Conflict, InvalidInput, TooLarge, TooMany

KEPT_SECONDS = 24 * 3600
"""Without a further piece."""


class FilePartialUploads:
    def __init__(self, directory: Path, limit: int, per_user: int = 8) -> None:
        self._directory = directory
        self._limit = limit
        self._per_user = per_user
        # Pieces are small: one at a time is written.
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def received(self, owner: str, digest: str) -> int:
        path = self._path(owner, digest)
        return path.stat().st_size if path.exists() else 0

    def append(self, owner: str, digest: str, offset: int, piece: bytes) -> int:
        path = self._path(owner, digest)
        with self._lock:
            self._forget_abandoned()
            size = self.received(owner, digest)
            if offset != size:
                return size
            if size + len(piece) > self._limit:
                path.unlink(missing_ok=True)
                raise TooLarge(
                    "The upload is larger than this platform accepts "
                    f"({self._limit // 2**20} MiB).",
                    remedy="Send less, or ask whoever runs the platform to raise the limit.",
                )
            if not path.exists() and len(list(path.parent.glob("*"))) >= self._per_user:
                raise TooMany(
                    f"You have {self._per_user} uploads that are not finished.",
                    remedy="Finish one of them; they are forgotten after a day.",
                )
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with path.open("ab") as file:
                file.write(piece)
            return size + len(piece)

    @contextmanager
    def whole(self, owner: str, digest: str) -> Iterator[BinaryIO]:
        path = self._path(owner, digest)
        if not path.exists():
            raise Conflict("Nothing of this upload is here.", remedy="Send it from its beginning.")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                self.forget(owner, digest)
                raise InvalidInput("What came is not what was announced.", remedy="Send it again.")
            file.seek(0)
            yield file

    def forget(self, owner: str, digest: str) -> None:
        with self._lock:
            self._path(owner, digest).unlink(missing_ok=True)

    def _path(self, owner: str, digest: str) -> Path:
        # A user's name may hold what a file's may not.
        return self._directory / hashlib.sha256(owner.encode()).hexdigest()[:32] / digest

    def _forget_abandoned(self) -> None:
        before = time.time() - KEPT_SECONDS
        for path in self._directory.glob("*/*"):
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
