"""What a run says about itself, said by a test in its job's place."""

from __future__ import annotations

import threading
import time
from typing import Any

from api_world import World
from notebook_shell import Notebook

from aiaas_magics.run import Run

CELL = "def train(ctx):\n    pass\n"


def submit(notebook: Notebook, options: str = "") -> Run:
    run: Run = notebook.run(f"%%aiaas train --name cnn --detach {options}\n{CELL}")
    return run


class JobSide:
    """What the job of a run says about itself."""

    def __init__(self, world: World, run: Run) -> None:
        self._world = world
        self._path = f"/runs/{run.id}/job"
        self._token = world.run_token({"id": run.id})
        self._sequence = self._offset = 0

    def event(self, kind: str, **more: Any) -> None:
        self._world.ok("POST", f"{self._path}/events", self._token, json={"kind": kind, **more})

    def step(self, count: int = 1, loss: float = 1.0) -> None:
        points = [
            {"step": self._sequence + i + 1, "time": time.time(), "values": {"loss": loss}}
            for i in range(count)
        ]
        body = {"sequence": self._sequence, "points": points}
        self._world.ok("POST", f"{self._path}/metrics", self._token, json=body)
        self._sequence += count

    def log(self, text: str) -> None:
        body = {"offset": self._offset, "text": text}
        self._world.ok("POST", f"{self._path}/log", self._token, json=body)
        self._offset += len(text.encode())


def beside(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread
