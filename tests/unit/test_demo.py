from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import websocket
from nbformat.v4 import new_code_cell, new_notebook, new_output

from aiaas_hub.local import demo
from aiaas_hub.local.demo import figures_of, judge
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.remote_kernel import CellOutputs
from aiaas_hub.schemas.errors import NotFound, Unavailable

GOOD: dict[str, Any] = {
    "accuracy": 0.97,
    "parity_max_abs": 1e-6,
    "seconds": {"submit_to_first_step": 2, "train": 3.5, "publish": 1, "first_predict": 0.1},
}


def shown(data: dict[str, Any]) -> Any:
    return new_output("display_data", data={"application/json": data})


def test_good_figures_pass() -> None:
    assert judge(GOOD) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": 0.949},
        {"accuracy": float("nan")},
        {"accuracy": None},
        {"accuracy": "0.99"},
        {"parity_max_abs": 1.1e-4},
        {"parity_max_abs": float("nan")},
        {"parity_max_abs": None},
        {"seconds": {"train": 1}},
        {"seconds": {}},
    ],
)
def test_figures_that_are_not_good_enough_fail(change: dict[str, Any]) -> None:
    assert judge({**GOOD, **change})


def test_the_last_figures_count() -> None:
    first = new_code_cell(outputs=[shown({**GOOD, "accuracy": 0.1})])
    last = new_code_cell(outputs=[shown(GOOD), shown({"something": "else"})])
    assert figures_of(new_notebook(cells=[first, last, new_code_cell()])) == GOOD


def test_a_notebook_without_figures_is_said() -> None:
    with pytest.raises(NotFound, match="does not show its figures"):
        figures_of(new_notebook(cells=[new_code_cell()]))


class Boom(Exception):
    pass


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout("too slow"), websocket.WebSocketException("no"), Boom("defect")]
)
def test_the_last_line_is_json_whatever_happens(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(demo, "_steps", fail)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    said: list[str] = []
    assert demo.run_demo(said.append, threading.Event(), None) == 1
    result = json.loads(said[-1])
    assert result["ok"] is False
    assert str(error) in result["problem"]
    assert any("Traceback" in line for line in said)


def test_stopping_does_not_wait_for_a_server_that_starts() -> None:
    """The hub answers with its own page for as long as a server is starting."""
    stop = threading.Event()
    with HubSession("http://hub", "ada") as session:
        session.http = httpx.Client(
            base_url="http://hub",
            transport=httpx.MockTransport(lambda request: httpx.Response(200, text="starting")),
        )
        threading.Timer(0.3, stop.set).start()
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="Stopped"):
            session.spawn("small", stop_requested=stop)
        assert time.monotonic() - begun < 5


def message(kind: str, **content: Any) -> dict[str, Any]:
    return {"header": {"msg_type": kind}, "content": content}


def display(text: str, kind: str = "display_data", display_id: str = "") -> dict[str, Any]:
    transient = {"display_id": display_id} if display_id else {}
    return message(kind, data={"text/plain": text}, metadata={}, transient=transient)


def test_outputs_are_folded_as_a_front_end_does() -> None:
    outputs = CellOutputs()
    outputs.add(message("stream", name="stdout", text="a"))
    outputs.add(message("stream", name="stdout", text="b"))
    outputs.add(message("stream", name="stderr", text="c"))
    outputs.add(display("old", display_id="x"))
    outputs.add(display("new", "update_display_data", "x"))
    outputs.add(message("comm_open"))
    assert [node.get("text") or node.data["text/plain"] for node in outputs.nodes] == [
        "ab",
        "c",
        "new",
    ]
    outputs.add(message("clear_output", wait=True))
    assert len(outputs.nodes) == 3
    outputs.add(display("only"))
    assert [node.data["text/plain"] for node in outputs.nodes] == ["only"]
    outputs.add(message("clear_output", wait=False))
    assert outputs.nodes == []
