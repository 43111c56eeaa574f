"""The gateway's routes on their way into its pods: compressed in a ConfigMap, which holds a
megabyte, and unpacked there beside Envoy.

    python -m aiaas_hub.adapters.route_files [--once] MOUNTED ROUTES

puts each file of the mounted ConfigMap into the directory `ROUTES` by a rename, on which Envoy
reads it anew; with `--once` it ends when they are there. It reads nothing else and has no secret.
"""

from __future__ import annotations

import gzip
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

LOOK_SECONDS = 0.1
_ENDING = ".gz"
_MOUNT = "..data"
"""A link that the kubelet replaces, so that what is mounted changes as a whole."""

log = logging.getLogger(__name__)


def packed(files: Mapping[str, str]) -> dict[str, bytes]:
    """The same text is always the same bytes."""
    return {
        name + _ENDING: gzip.compress(text.encode(), compresslevel=6, mtime=0)
        for name, text in files.items()
    }


def unpacked(files: Mapping[str, bytes]) -> dict[str, str]:
    """Raises `OSError`, `EOFError` or `ValueError` for what was never packed."""
    return {
        name.removesuffix(_ENDING): gzip.decompress(content).decode()
        for name, content in files.items()
        if name.endswith(_ENDING)
    }


def put(mounted: Path, routes: Path) -> int:
    """How many files were put into their place."""
    found = unpacked({file.name: file.read_bytes() for file in mounted.glob(f"*{_ENDING}")})
    routes.mkdir(exist_ok=True)
    for name, text in found.items():
        file = routes / name
        if file.exists() and file.read_text() == text:
            continue
        fresh = routes / f".{name}"
        fresh.write_text(text)
        fresh.rename(file)
    return len(found)


def follow(mounted: Path, routes: Path, *, once: bool = False) -> None:
    """Until it is ended."""
    former = None
    while True:
        try:
            current = os.readlink(mounted / _MOUNT)
            if current != former:
                count = put(mounted, routes)
                if once and count:
                    return
                former = current
        except (OSError, EOFError, ValueError) as error:
            # Replaced while it was read, or half an upgrade: the former files hold.
            log.warning("The mounted routes cannot be read: %s", error)
            time.sleep(1)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    # The first process of a container is ended by no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    *_, source, target = sys.argv
    follow(Path(source), Path(target), once="--once" in sys.argv)
