"""A server whose kernel computes is not idle, however long it says nothing.

Jupyter counts what kernels print and what pages ask. A cell that computes silently for an hour is
neither; nor is one that waits for its run. So that the hub's culler leaves such a server alone,
the server itself says once a minute that it was active.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tornado.ioloop import PeriodicCallback

SECONDS = 60
_NAME = "aiaas_busy_kernel"


def watch_kernels(settings: dict[str, Any]) -> PeriodicCallback:
    """Note activity in the server's `settings` while a kernel is busy; the callback is started."""

    def note() -> None:
        note_busy(settings)

    callback = PeriodicCallback(note, SECONDS * 1000)
    callback.start()
    return callback


def note_busy(settings: dict[str, Any]) -> bool:
    """Whether a kernel is busy; if so, that is activity now."""
    kernels = settings["kernel_manager"]
    busy = any(
        getattr(kernels.get_kernel(kernel), "execution_state", "") == "busy"
        for kernel in kernels.list_kernel_ids()
    )
    if busy:
        # Where jupyter_server lets extensions tell of activity.
        settings["last_activity_times"][_NAME] = datetime.now(UTC)
    return busy
