"""The gateway's routes on their way into its pods: compressed in a ConfigMap, which holds a
megabyte, and unpacked there beside Envoy.

    python -m aiaas_hub.adapters.route_files MOUNTED ROUTES [FILE…]

puts each file of the mounted ConfigMap into the directory `ROUTES` by a rename, on which Envoy
reads it anew; with names of files it ends when they are there. It reads nothing else and has no
secret.
"""

from __future__ import annotations

import gzip
import logging
import os
import signal
import sys
import time
import zlib
from collections.abc import Collection, Mapping
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
    """Raises `ValueError` for what was never packed."""
    try:
        return {
            name.removesuffix(_ENDING): gzip.decompress(content).decode()
            for name, content in files.items()
            if name.endswith(_ENDING)
        }
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error


def put(mounted: Path, routes: Path) -> set[str]:
    """Put the files into their places, clusters before the routes that name them; their names."""
    found = unpacked({file.name: file.read_bytes() for file in mounted.glob(f"*{_ENDING}")})
    routes.mkdir(exist_ok=True)
    for name, text in sorted(found.items()):
        file = routes / name
        if file.exists() and file.read_text() == text:
            continue
        fresh = routes / f".{name}"
        fresh.write_text(text)
        fresh.rename(file)
    return set(found)


def follow(mounted: Path, routes: Path, needed: Collection[str] = ()) -> None:
    """Until it is ended, or these files are there."""
    former = None
    while True:
        try:
            current = os.readlink(mounted / _MOUNT)
            if current != former:
                missing = set(needed) - put(mounted, routes)
                if needed and not missing:
                    return
                if missing:
                    log.warning("Waiting for the service to write %s", ", ".join(sorted(missing)))
                former = current
        except (OSError, ValueError) as error:
            # Replaced while it was read, or not ours: the former files hold.
            log.warning("The mounted routes cannot be read: %s", error)
            time.sleep(1)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    # The first process of a container is ended by no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    source, target, *files = sys.argv[1:]
    follow(Path(source), Path(target), files)
