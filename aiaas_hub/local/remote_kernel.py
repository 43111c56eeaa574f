"""Run a notebook in a kernel of a user's Jupyter server, through the server's own interface.

The kernel protocol over a websocket, JSON frames:
https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import nbformat
import websocket
from nbformat.v4 import output_from_msg

from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.schemas.errors import AiaasError, Unavailable

_SHOWN = frozenset({"stream", "display_data", "execute_result", "error"})


class CellFailed(AiaasError):
    """A cell of the notebook raised."""

    code = "cell_failed"
    status = 422


class RemoteKernel:
    """One kernel of the user's server; it is shut down at the end. A context manager."""

    def __init__(self, session: HubSession, *, directory: str) -> None:
        """`directory`: where the kernel works, relative to the server's root."""
        self._session = session
        self._name = uuid.uuid4().hex
        answer = session.server_request(
            "POST",
            "api/sessions",
            json={
                "path": f"{directory}/{self._name}.ipynb",
                "name": self._name,
                "type": "notebook",
                "kernel": {"name": "python3"},
            },
        )
        if answer.status_code != 201:
            raise Unavailable(
                f"The notebook server does not start a kernel (HTTP {answer.status_code}).",
                remedy="The hub's log says why.",
            )
        self._id: str = answer.json()["kernel"]["id"]
        self._jupyter_session = answer.json()["id"]
        address, headers, cookies = session.websocket(
            f"api/kernels/{self._id}/channels", session_id=self._name
        )
        self._socket = websocket.create_connection(
            address,
            header=[f"{name}: {value}" for name, value in headers.items()],
            cookie=cookies,
            timeout=30,
            sslopt={} if session.tls is True else {"context": session.tls},
            # Never through an HTTP proxy of the environment.
            http_no_proxy=["*"],
        )

    def __enter__(self) -> RemoteKernel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._session.server_request("DELETE", f"api/sessions/{self._jupyter_session}")

    def run(
        self,
        notebook: nbformat.NotebookNode,
        *,
        cell_timeout: float,
        stop_requested: Callable[[], bool],
        progress: Callable[[str], None],
    ) -> None:
        """Execute the code cells in order and keep their outputs in `notebook`.

        `CellFailed` at the first cell that raises; `Unavailable` if one takes longer than
        `cell_timeout` seconds, the kernel dies, or `stop_requested` becomes true.
        """
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(cells, start=1):
            first = next((line for line in cell.source.splitlines() if line.strip()), "")
            progress(f"cell {number}/{len(cells)}: {first[:70]}")
            self._run_cell(cell, number, time.monotonic() + cell_timeout, stop_requested)

    def _run_cell(
        self,
        cell: nbformat.NotebookNode,
        number: int,
        deadline: float,
        stop_requested: Callable[[], bool],
    ) -> None:
        request = uuid.uuid4().hex
        self._send(
            request,
            "execute_request",
            {
                "code": cell.source,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
        )
        outputs = CellOutputs()
        cell.outputs = outputs.nodes
        replied = idle = False
        failure = ""
        while not (replied and idle):
            message = self._receive(deadline, number, stop_requested)
            if message is None or message.get("parent_header", {}).get("msg_id") != request:
                if message is not None and _kernel_died(message):
                    raise Unavailable(f"The kernel died in cell {number}.")
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "status":
                idle = idle or content["execution_state"] == "idle"
            elif kind == "execute_reply":
                replied = True
                cell.execution_count = content.get("execution_count")
                if content["status"] != "ok":
                    failure = f"{content.get('ename', '')}: {content.get('evalue', '')}"
            else:
                outputs.add(message)
        if failure:
            raise CellFailed(f"Cell {number} of the notebook failed with {failure}")

    def _send(self, request: str, kind: str, content: dict[str, Any]) -> None:
        header = {
            "msg_id": request,
            "msg_type": kind,
            "username": "",
            "session": self._name,
            "date": "",
            "version": "5.3",
        }
        message = {
            "channel": "shell",
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "buffers": [],
        }
        self._socket.send(json.dumps(message))

    def _receive(
        self, deadline: float, number: int, stop_requested: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """The next message; None for one with binary buffers, which are widgets' business."""
        while True:
            if stop_requested():
                raise Unavailable(f"Stopped in cell {number}.")
            if time.monotonic() > deadline:
                raise Unavailable(f"Cell {number} of the notebook takes too long.")
            self._socket.settimeout(1)
            try:
                frame = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                continue
            except (websocket.WebSocketException, OSError) as error:
                raise Unavailable(f"The kernel's connection broke in cell {number}.") from error
            if not isinstance(frame, str) or not frame:
                return None
            message: dict[str, Any] = json.loads(frame)
            return message


def _kernel_died(message: dict[str, Any]) -> bool:
    return message["header"]["msg_type"] == "status" and message["content"].get(
        "execution_state"
    ) in ("dead", "restarting", "autorestarting")


class CellOutputs:
    """What stands under a cell: output messages as a notebook front end folds them."""

    def __init__(self) -> None:
        self.nodes: list[nbformat.NotebookNode] = []
        self._displays: dict[str, list[nbformat.NotebookNode]] = {}
        self._clear_before_next = False

    def add(self, message: dict[str, Any]) -> None:
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "clear_output":
            if content.get("wait"):
                self._clear_before_next = True
            else:
                self._clear()
            return
        display_id = content.get("transient", {}).get("display_id")
        if kind == "update_display_data":
            for node in self._displays.get(display_id, []):
                node.data = nbformat.from_dict(content["data"])
                node.metadata = nbformat.from_dict(content["metadata"])
            return
        if kind not in _SHOWN:
            return
        if self._clear_before_next:
            self._clear()
        last = self.nodes[-1] if self.nodes else None
        if (
            kind == "stream"
            and last is not None
            and last.output_type == "stream"
            and last.name == content["name"]
        ):
            last.text += content["text"]
            return
        node = output_from_msg(message)
        self.nodes.append(node)
        if display_id:
            self._displays.setdefault(display_id, []).append(node)

    def _clear(self) -> None:
        self.nodes.clear()
        self._displays.clear()
        self._clear_before_next = False
