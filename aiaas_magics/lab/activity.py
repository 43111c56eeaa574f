"""What counts as work in a notebook server, so that the hub's culler leaves it alone, or does not.

Jupyter counts what kernels print and every request. A cell that computes silently for an hour is
neither, nor is one that waits for its run; and a page that is merely open asks for the same lists
every few seconds and saves its layout, for ever. So here work is: what kernels print and terminals
say; a kernel that is busy; a page that follows a run; what changes something; and that somebody
presses keys, which our page tells (`ending`). Reading by itself is none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jupyter_server.base.handlers import APIHandler
from tornado.ioloop import PeriodicCallback

SECONDS = 60
_BUSY = "aiaas_busy"
_WORK = "aiaas_work"
_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Activity:
    """Of a server with these settings; `streams` says how many runs its pages follow."""

    settings: dict[str, Any]
    streams: Callable[[], int] = lambda: 0

    def note(self) -> bool:
        """Whether a kernel is busy or a run is followed; if so, that is activity now."""
        kernels = self.settings["kernel_manager"]
        busy = self.streams() > 0 or any(
            getattr(kernels.get_kernel(kernel), "execution_state", "") == "busy"
            for kernel in kernels.list_kernel_ids()
        )
        if busy:
            self._at_work(_BUSY)
        return busy

    def note_work(self) -> None:
        """Somebody is there."""
        self._at_work(_WORK)

    def _at_work(self, name: str) -> None:
        # Where jupyter_server lets extensions tell of activity.
        self.settings["last_activity_times"][name] = datetime.now(UTC)

    def watch(self) -> PeriodicCallback:
        """Note it as often as the hub is told; the callback is started."""
        told = float(os.environ.get("JUPYTERHUB_ACTIVITY_INTERVAL") or SECONDS)

        def note() -> None:
            self.note()

        callback = PeriodicCallback(note, 1000 * min(SECONDS, told))
        callback.start()
        return callback


def count_work_only() -> None:
    """From now on what a page asks and saves by itself is no activity in this process.

    Jupyter Server 2.19 lets a handler's class, or its caller, say that none of its requests are.
    JupyterLab 4.6 says it of none, reads lists every few seconds and saves where its panels are
    every ten. Remove this when its pages say which requests are nobody's.
    """
    with suppress(ImportError):
        from jupyterlab_server.workspaces_handler import WorkspacesHandler

        WorkspacesHandler._track_activity = False
    count = APIHandler.update_api_activity
    if getattr(count, "of_changes", False):
        return

    def update_api_activity(self: APIHandler) -> None:
        if self.request.method not in _READING:
            count(self)

    update_api_activity.of_changes = True  # type: ignore[attr-defined]  # told apart by it above
    APIHandler.update_api_activity = update_api_activity  # type: ignore[method-assign]
