"""Content-addressed files behind fsspec: a local directory by default, `s3://…` by setting."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from fsspec.implementations.local import LocalFileSystem

from aiaas_hub.adapters.object_store import open_store, reached
from aiaas_hub.schemas.errors import TooLarge

_CHUNK = 1 << 20


class FsspecBlobs:
    """Blobs below `url`. `cache` is a local directory for content that lies elsewhere: uploads are
    written there first, and what was fetched is kept there."""

    def __init__(self, url: str, cache: Path) -> None:
        self._fs, self._root = open_store(url)
        self._is_local = isinstance(self._fs, LocalFileSystem)
        # Local blobs are written beside their place: a rename does not cross file systems.
        self._cache = Path(self._root) / ".incoming" if self._is_local else cache
        # Between looking whether content is there and counting on it, it must not go.
        self._lock = threading.Lock()
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        for abandoned in self._cache.glob("[pg][ue]t-*"):
            # Of a service that was killed: nobody will finish it.
            abandoned.unlink(missing_ok=True)

    def put(self, source: BinaryIO, *, limit: int) -> tuple[str, int]:
        with tempfile.NamedTemporaryFile(dir=self._cache, prefix="put-", delete=False) as aside:
            try:
                digest, size = _copy(source, cast(BinaryIO, aside), limit)
                aside.flush()
                os.fsync(aside.fileno())
                self._take(Path(aside.name), digest)
            finally:
                Path(aside.name).unlink(missing_ok=True)
        return digest, size

    def open(self, digest: str) -> BinaryIO:
        # Fetched whole where it lies elsewhere: by pieces, each would be a request.
        return self.local_path(digest).open("rb")

    def local_path(self, digest: str) -> Path:
        if self._is_local:
            return Path(self._key(digest))
        cached = self._cache / digest
        if not cached.exists():
            aside = self._cache / f"get-{secrets.token_hex(8)}"
            with self._reached():
                self._fs.get_file(self._key(digest), str(aside))
            aside.rename(cached)
        return cached

    def iterate(self, digest: str, chunk: int = _CHUNK) -> Iterator[bytes]:
        with self.open(digest) as stream:
            while block := stream.read(chunk):
                yield block

    def size(self, digest: str) -> int:
        with self._reached():
            return int(self._fs.size(self._key(digest)))

    def keep(self, digest: str) -> bool:
        with self._lock, self._reached():
            return self._touch(digest)

    def remove(self, digest: str, unused_since: datetime) -> bool:
        key = self._key(digest)
        with self._lock, self._reached():
            if self._fs.exists(key):
                if self._fs.modified(key) >= unused_since:
                    return False
                self._fs.rm_file(key)
            if not self._is_local:
                (self._cache / digest).unlink(missing_ok=True)
        return True

    def _reached(self) -> AbstractContextManager[None]:
        """A store elsewhere may be away; what this machine's own disk says is told as it is."""
        return nullcontext() if self._is_local else reached()

    def _touch(self, digest: str) -> bool:
        """Whether it is there; where files have times of their own, it is new again from now."""
        key = self._key(digest)
        if not self._fs.exists(key):
            return False
        if self._is_local:
            os.utime(key)
        return True

    def _take(self, aside: Path, digest: str) -> None:
        with self._lock:
            # An object store's objects are as old as their last writing: written again.
            if self._is_local and self._touch(digest):
                return
            self._store(aside, self._key(digest))

    def _store(self, aside: Path, key: str) -> None:
        if not self._is_local:
            # Object stores show an object only when all of it is there.
            with reached():
                self._fs.put_file(str(aside), key)
            return
        final = Path(key)
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.replace(final)
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _key(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"


def _copy(source: BinaryIO, target: BinaryIO, limit: int) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    while block := source.read(_CHUNK):
        size += len(block)
        if size > limit:
            raise TooLarge(
                f"The upload is larger than this platform accepts ({limit // 2**20} MiB).",
                remedy="Send less, or ask whoever runs the platform to raise the limit.",
            )
        hasher.update(block)
        target.write(block)
    return hasher.hexdigest(), size
