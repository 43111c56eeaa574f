"""The rows that the backend counted: see its `input_counts`.

While one Triton runs, what is counted of a version only grows: an instance's file outlives it.
Another Triton begins with none.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VARIABLE = "AIAAS_INPUT_COUNTS"


class CountedInputs:
    """The directory that the backend writes to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, tuple[int, NDArray[np.int64]]] = {}

    def clear(self) -> None:
        """Before Triton starts."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(mode=0o700, parents=True)

    def remove(self, model: str, version: int | None = None) -> None:
        """Of a version, or of all of a model's, that is no more."""
        path = self.root / model if version is None else self.root / model / str(version)
        shutil.rmtree(path, ignore_errors=True)

    def read(self) -> dict[tuple[str, int], NDArray[np.int64]]:
        """Model and version → rows, `[features, places]`, over all instances. Files that did not
        change since the last time are not read again."""
        found: dict[tuple[str, int], NDArray[np.int64]] = {}
        read: dict[Path, tuple[int, NDArray[np.int64]]] = {}
        for path in self.root.glob("*/*/*.json"):
            try:
                changed = path.stat().st_mtime_ns
                known = self._read.get(path)
                if known is None or known[0] != changed:
                    known = changed, np.array(json.loads(path.read_bytes()), np.int64)
            except (FileNotFoundError, ValueError):
                # Removed meanwhile; or written by nobody that we know of.
                continue
            read[path] = known
            key = path.parent.parent.name, int(path.parent.name)
            total = found.get(key)
            found[key] = known[1] if total is None else total + known[1]
        self._read = read
        return found
