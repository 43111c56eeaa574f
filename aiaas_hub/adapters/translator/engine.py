"""Keeps the translator alive, as an engine of its own."""

from __future__ import annotations

import glob
import http.client
import os
import sys
import time
from pathlib import Path

from aiaas_hub.adapters import run_directory, unix_http
from aiaas_hub.adapters.run_directory import triton_sockets
from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor
from aiaas_hub.home import MARKER, Home
from aiaas_hub.schemas.platform import EngineHealth, EngineState

NAME = "translator"
_START_SECONDS = 30.0
_INHERITED = (MARKER, "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "VIRTUAL_ENV")


def socket_of(home: Home) -> Path:
    """Where the gateway reaches the translator of this home."""
    return run_directory.run_directory(home, NAME) / "http"


class TranslatorLocal:
    """The `Engine` that answers other protocols than Triton's. Nothing else waits for it."""

    def __init__(self, home: Home, supervisor: Supervisor) -> None:
        self._home = home
        self._supervisor = supervisor
        self._started_at = 0.0

    def start(self) -> None:
        """Start it, or adopt it if it runs; returns before it is ready."""
        if self._supervisor.alive(NAME):
            return
        self._started_at = time.monotonic()
        socket = socket_of(self._home)
        socket.unlink(missing_ok=True)
        module = "aiaas_hub.adapters.translator.server"
        arguments = [str(socket), str(triton_sockets(self._home) / "http")]
        self._supervisor.start(
            ProcessSpec(
                NAME,
                [sys.executable, "-m", module, *arguments],
                {name: os.environ[name] for name in _INHERITED if name in os.environ},
                cwd=socket.parent,
                grace_seconds=5,
                leaves=[glob.escape(str(socket))],
            )
        )

    def shutdown(self) -> None:
        """Stop it; a repeat does nothing."""
        self._supervisor.stop(NAME)
        run_directory.remove(self._home, NAME)

    def health(self) -> EngineHealth:
        if self._answers():
            return EngineHealth(name=NAME, state=EngineState.READY)
        if self._supervisor.alive(NAME) and time.monotonic() - self._started_at < _START_SECONDS:
            return EngineHealth(name=NAME, state=EngineState.STARTING, reason="It is starting.")
        reason = f"It does not answer; its log is in logs/{NAME}.log."
        return EngineHealth(name=NAME, state=EngineState.UNAVAILABLE, reason=reason)

    def _answers(self) -> bool:
        try:
            # Any word from it will do.
            unix_http.get(socket_of(self._home), "/", timeout=1)
        except (OSError, http.client.HTTPException):
            return False
        return True
