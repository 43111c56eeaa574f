"""Whether somebody has asked this worker's run to stop by itself."""

from __future__ import annotations

import threading

_asked = threading.Event()


def ask() -> None:
    _asked.set()


def asked() -> bool:
    return _asked.is_set()
