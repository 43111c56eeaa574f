"""Files that a node keeps between runs, named by what they hold: code and datasets."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aiaas_hub.schemas.errors import InvalidInput

LIMIT = 10 << 30
"""Bytes beyond which the files unused for longest go."""
_IN_USE_SECONDS = 24 * 3600.0


def node_cache() -> Path:
    """This user's cache on this node, `AIAAS_NODE_CACHE` or a private temporary directory."""
    configured = os.environ.get("AIAAS_NODE_CACHE")
    if configured:
        path = Path(configured)
    else:
        path = Path(tempfile.gettempdir()) / f"aiaas-node-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise InvalidInput(
            f"The cache directory {path} belongs to somebody else.",
            remedy="Set AIAAS_NODE_CACHE to a directory of your own.",
        )
    return path


def fetch(key: str, fill: Callable[[Path], None]) -> Path:
    """The cached file of `key`, made by `fill` if it is not there. Workers wait for each other."""
    directory = node_cache() / "datasets"
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / hashlib.sha256(key.encode()).hexdigest()
    with (directory / f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            aside = file.with_name(f".{file.name}.part")
            fill(aside)
            aside.rename(file)
        os.utime(file)
    return file


def prune(limit: int = LIMIT) -> None:
    """Remove what was not used for a day, oldest first, until the cache fits into `limit`."""
    entries = []
    for kind in ("datasets", "snapshots", "work"):
        for path in (node_cache() / kind).glob("*"):
            # Other runs prune as well, and put their files in place meanwhile.
            with suppress(FileNotFoundError):
                files = [path, *path.rglob("*")] if path.is_dir() else [path]
                size = sum(file.lstat().st_size for file in files)
                entries.append((path.lstat().st_mtime, size, path))
    total = sum(size for _, size, _ in entries)
    for used_at, size, path in sorted(entries):
        if total <= limit or time.time() - used_at < _IN_USE_SECONDS:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        total -= size
