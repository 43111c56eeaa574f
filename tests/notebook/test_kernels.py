"""Real kernels that are interrupted and killed, before the real service."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from api_world import PREFIX, World
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from notebook_shell import Notebook
from run_reports import JobSide

import aiaas_magics as aiaas
from aiaas_magics.run import MIME_TYPE

CELL = "%%aiaas train --name cnn\ndef train(ctx):\n    pass"
DETACHED = CELL.replace("cnn", "cnn --detach")
SHOWN = ("display_data", "update_display_data", "execute_result", "stream", "error")


class Kernel:
    """A kernel of alice's notebook, which has the extension loaded."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client
        self.run("%load_ext aiaas_magics")

    def run(self, code: str) -> list[dict[str, Any]]:
        """What the cell shows, in order."""
        found: list[dict[str, Any]] = []
        self.client.execute_interactive(
            code, output_hook=lambda message: found.extend(shown(message)), timeout=60
        )
        return found

    def begin(self, code: str) -> str:
        """Returns once the cell watches a run; the request's id."""
        request: str = self.client.execute(code)
        while (message := self.client.get_iopub_msg(timeout=30))["msg_type"] != "display_data":
            assert message["msg_type"] != "error", message
        return request

    def rest(self, request: str) -> list[dict[str, Any]]:
        """What a begun cell still shows until it is over."""
        found: list[dict[str, Any]] = []
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["content"].get("execution_state") == "idle":
                return found
            found += shown(message)

    def killed(self) -> None:
        """SIGKILL, and another one in its place."""
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=60)
        self.run("%load_ext aiaas_magics")


def shown(message: dict[str, Any]) -> list[dict[str, Any]]:
    if message["msg_type"] not in SHOWN:
        return []
    return [{"type": message["msg_type"], **message["content"]}]


def errors(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for output in outputs if output["type"] == "error"]


@pytest.fixture
def kernel(world: World, tmp_path: Path) -> Iterator[Kernel]:
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_pain_a_session_orphaned_by_a_kernel_restart(
    world: World, notebook: Notebook, kernel: Kernel
) -> None:
    """A kernel is killed while it watches; the next one attaches and sees it all."""
    kernel.run(DETACHED)
    (run,) = aiaas.runs.list()
    job = JobSide(world, run)
    job.event("started")
    job.step(3)
    job.log("before\n")
    kernel.begin("%aiaas attach")
    kernel.killed()
    job.log("after\n")
    job.step(2)
    job.event("succeeded")
    outputs = kernel.run(f"%aiaas attach {run.id}")
    assert not errors(outputs)
    last = [output["data"] for output in outputs if output["type"] == "update_display_data"][-1]
    assert last[MIME_TYPE] == {"run": run.id, "version": 1}
    assert "before\nafter" in last["text/plain"]
    assert "step 5" in last["text/plain"]
    assert "succeeded" in last["text/html"]


def test_pain_an_interrupt_that_does_not_say_how_to_cancel(
    world: World, notebook: Notebook, kernel: Kernel
) -> None:
    """The stop button ends the cell and not the run, however the cell came to watch it."""
    for cell in (CELL, "%aiaas attach"):
        request = kernel.begin(cell)
        (run,) = aiaas.runs.list()
        kernel.manager.interrupt_kernel()
        outputs = kernel.rest(request)
        assert not errors(outputs), outputs
        said = "".join(output["text"] for output in outputs if output["type"] == "stream")
        assert f"%aiaas cancel {run.id}" in said
        assert f"%aiaas attach {run.id}" in said
        assert "Traceback" not in said
        # As the cell's value, and in a kernel that is there for the next one.
        assert outputs[-1]["type"] == "execute_result"
        assert run.id in outputs[-1]["data"]["text/plain"]
        assert not errors(kernel.run(f"assert _.id == {run.id!r}"))
    job = JobSide(world, run)
    job.event("started")
    job.step(2)
    assert aiaas.runs.get(run.id).state == "running"
    # What was said to type does what it says.
    kernel.run(f"%aiaas cancel {run.id}")
    world.tick()
    assert aiaas.runs.get(run.id).state == "cancelled"


class Gate:
    """Between a kernel and the service: what is sent passes, up to where the gate is shut.

    `at` ends a request's path; half of that request's body is kept back. With `answer` the request
    passes, and the answer to it is.
    """

    def __init__(self, behind: tuple[str, int]) -> None:
        self._at: bytes | None = None
        self._answer = self._holds = False
        self.reached = threading.Event()
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(behind) as there, suppress(OSError):
                    back = threading.Thread(target=gate.back, args=(there, self.request))
                    back.start()
                    gate.forth(self.request, there)
                    there.shutdown(socket.SHUT_RDWR)
                    back.join()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def shut(self, at: bytes, *, answer: bool = False) -> None:
        self.reached.clear()
        self._at, self._answer, self._holds = at, answer, False

    def open(self) -> None:
        self._at = None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forth(self, kernel: socket.socket, service: socket.socket) -> None:
        while data := kernel.recv(1 << 16):
            if self._at is None or self._at not in data.partition(b"\r\n")[0]:
                service.sendall(data)
                continue
            if self._answer:
                self._holds = True
                service.sendall(data)
                continue
            head, end, body = data.partition(b"\r\n\r\n")
            body = body or kernel.recv(1 << 16)
            service.sendall(head + end + body[: len(body) // 2])
            self.reached.set()
            # The rest goes nowhere.
            while kernel.recv(1 << 16):
                pass

    def back(self, service: socket.socket, kernel: socket.socket) -> None:
        with suppress(OSError):
            while data := service.recv(1 << 16):
                if self._at is not None and self._holds:
                    self.reached.set()
                else:
                    kernel.sendall(data)


@pytest.fixture
def gate(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The kernel's way to the service; this process goes there directly."""
    url = world.client.base_url
    made = Gate((url.host, url.port or 80))
    with monkeypatch.context() as patch:
        patch.setenv("AIAAS_URL", f"http://127.0.0.1:{made.port}{PREFIX}")
        yield made
    made.close()


def test_a_kernel_killed_in_a_submission_leaves_nothing_half_done(
    world: World, gate: Gate, kernel: Kernel
) -> None:
    """Amid the upload, or before it creates the run: the same cell then submits it, once."""
    blobs = world.home.artifacts / "blobs"
    runs: list[str] = []
    for at in (b"/blobs ", b"/runs "):
        gate.shut(at)
        kernel.client.execute(DETACHED)
        assert gate.reached.wait(60), at
        kernel.killed()
        assert listed(world) == runs, at
        gate.open()
        assert not errors(kernel.run(DETACHED))
        assert listed(world)[1:] == runs, at
        runs = listed(world)
        # The snapshot, once, and no piece of one.
        assert sum(path.is_file() for path in blobs.rglob("*")) == 1, at
    # Killed before it hears that the run is there: the next kernel finds it.
    gate.shut(b"/runs ", answer=True)
    kernel.client.execute(DETACHED)
    assert gate.reached.wait(60)
    kernel.killed()
    gate.open()
    (newest, *before) = listed(world)
    assert before == runs
    assert newest in str(kernel.run("%aiaas runs"))
    assert all(world.run_token({"id": run}) for run in (newest, *before))


def listed(world: World) -> list[str]:
    """The newest first."""
    return [run["id"] for run in world.ok("GET", "/runs")["items"]]
