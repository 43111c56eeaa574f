"""Panels in a real kernel, with a test in the page's place: comms and nothing else."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pandas as pd
import pytest
from api_world import World
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from notebook_shell import Notebook
from run_reports import JobSide, submit

import aiaas_magics as aiaas

WIDGET = "application/vnd.jupyter.widget-view+json"
SECONDS = 60.0


class Page:
    """What a page knows of the widgets in a kernel, from its messages alone."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.states: dict[str, dict[str, Any]] = {}
        self.closed: set[str] = set()
        self.shown: list[dict[str, Any]] = []
        self.idle: set[str] = set()

    def run(self, code: str) -> None:
        """Run a cell to its end."""
        request = self._client.execute(code)
        self.until(lambda: request in self.idle)
        reply = self._client.get_shell_msg(timeout=SECONDS)
        assert reply["content"]["status"] == "ok", reply["content"]

    def say(self, comm: str, content: dict[str, Any]) -> None:
        data = {"comm_id": comm, "data": {"method": "custom", "content": content}}
        self._client.shell_channel.send(self._client.session.msg("comm_msg", data))

    def until(self, test: Any) -> None:
        ends = time.monotonic() + SECONDS
        while not test():
            assert time.monotonic() < ends, self.states
            with suppress(queue.Empty):
                self._take(self._client.get_iopub_msg(timeout=0.2))

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_open":
            self.states[content["comm_id"]] = dict(content["data"]["state"])
        elif kind == "comm_msg" and content["data"]["method"] == "update":
            self.states[content["comm_id"]].update(content["data"]["state"])
        elif kind == "comm_close":
            self.closed.add(content["comm_id"])
        elif kind in ("display_data", "execute_result"):
            self.shown.append(content["data"])
        elif kind == "status" and content["execution_state"] == "idle":
            self.idle.add(message["parent_header"]["msg_id"])

    def of(self, view: str) -> str:
        """The comm of the newest widget whose code says this."""
        return [comm for comm, state in self.states.items() if view in str(state.get("_esm"))][-1]


@pytest.fixture
def page(world: World) -> Iterator[Page]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=dict(os.environ))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=SECONDS)
    yield Page(client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_panels_live_beside_the_cells(world: World, notebook: Notebook, page: Page) -> None:
    aiaas.datasets.put("sales", pd.DataFrame({"price": range(30)}))
    page.run("%load_ext aiaas_magics\nimport aiaas_magics as aiaas")
    page.run("%aiaas panel datasets")
    bundle = next(shown for shown in page.shown if WIDGET in shown)
    browser = page.of("Dataset browser")
    box = page.states[bundle[WIDGET]["model_id"]]
    assert box["children"] == [f"IPY_MODEL_{browser}"]
    assert "alice/sales" in bundle["text/plain"]
    assert any("run this cell again" in shown["text/html"] for shown in page.shown)
    assert page.states[browser]["listing"]["items"][0]["name"] == "alice/sales"
    page.say(browser, {"do": "choose", "name": "alice/sales"})
    page.until(lambda: page.states[browser]["table"].get("rows"))
    page.say(browser, {"do": "look", "columns": [], "where": "price > 27", "sort": ""})
    page.until(lambda: page.states[browser]["table"]["rows"] == [["28"], ["29"]])
    page.until(lambda: not page.states[browser]["busy"])

    run = submit(notebook)
    page.run("monitor = aiaas.panel('runs')\nmonitor")
    eye = page.of("IntersectionObserver")
    page.say(eye, {"seen": True})
    page.run(f"monitor.model.choose({run.id!r})")
    # No cell runs, and the panel follows all the same.
    job = JobSide(world, run)
    job.event("started")
    job.step(7)
    page.until(lambda: any("step 7" in str(s.get("value")) for s in page.states.values()))
    # Nor does a platform that does not answer keep a cell waiting.
    page.run(
        "import time\n"
        "monitor.model._client.runs.get = lambda _: time.sleep(3600)\n"
        "monitor.model.choose('run-that-hangs')"
    )
    page.run("assert monitor.model.chosen == 'run-that-hangs'")
    page.run("monitor.close()")
    assert eye in page.closed
