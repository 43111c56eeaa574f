"""Secrets in a real kernel: what is asked for unseen leaves nothing in the notebook."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from api_world import World
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import NotFound

SECRET = "canary-of-a-typed-secret"
SECONDS = 60.0


@pytest.fixture
def kernel(world: World) -> Iterator[BlockingKernelClient]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=dict(os.environ))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=SECONDS)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(kernel: BlockingKernelClient, code: str, *answers: str) -> tuple[str, list[dict[str, Any]]]:
    """What the cell showed, and what it asked; each question gets the next answer."""
    shown, asked, left = "", [], list(answers)
    request = kernel.execute(code, allow_stdin=True)
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        with suppress(queue.Empty):
            asked.append(kernel.get_stdin_msg(timeout=0.05)["content"])
            kernel.input(left.pop(0))
        with suppress(queue.Empty):
            message = kernel.get_iopub_msg(timeout=0.05)
            shown += str(message["content"])
            mine = message["parent_header"].get("msg_id") == request
            if mine and message["content"].get("execution_state") == "idle":
                return shown, asked
    raise AssertionError(shown)


def test_a_secret_is_asked_for_unseen(world: World, kernel: BlockingKernelClient) -> None:
    run(kernel, "%load_ext aiaas_magics")
    shown, asked = run(kernel, "%aiaas secret set lab --kind s3", "AKIA", SECRET, "")
    assert [one["prompt"] for one in asked] == [
        "access key: ",
        "secret key: ",
        "session token (empty: none): ",
    ]
    assert all(one["password"] for one in asked)
    assert "Secret lab is kept" in shown
    everything, _ = run(kernel, "print(In, Out, list(globals().values()))")
    assert SECRET not in shown + everything
    listed, _ = run(kernel, "%aiaas secrets")
    assert "lab" in listed
    assert "s3://" in listed
    values = world.services.secrets.credentials("alice", "lab", "s3")
    assert values == {"access_key": "AKIA", "secret_key": SECRET}


def test_secrets_in_python(world: World, notebook: Notebook, tmp_path: Any) -> None:
    (tmp_path / "key.json").write_text('{"type": "service_account"}')
    aiaas.secrets.set("cloud", "gs", file=tmp_path / "key.json")
    assert [one.name for one in aiaas.secrets.list()] == ["cloud"]
    assert "key.json" not in repr(aiaas.secrets.list())
    with pytest.raises(NotFound, match="no secret nothing"):
        aiaas.datasets.register("x", "s3://bucket/x.csv", secret="nothing")
    aiaas.secrets.delete("cloud")
    assert "No secrets yet" in repr(aiaas.secrets.list())
