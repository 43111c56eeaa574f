"""A server that speaks the Open Inference Protocol, as the gateway before a model does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np


class Doubling(BaseHTTPRequestHandler):
    """Binary tensors for a model that doubles `x`. Its version 2, asked for by its number,
    negates the rows that begin with a 0 as well."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        split = int(self.headers["Inference-Header-Content-Length"])
        shape = json.loads(body[:split])["inputs"][0]["shape"]
        x = np.frombuffer(body[split:], np.float32).reshape(shape)
        server.calls.append((self.path, self.headers["Authorization"], len(x)))
        status = server.statuses.pop(0) if server.statuses else 200
        if status != 200:
            self._answer(status, b'{"error": "not now"}', None)
            return
        version = self.headers.get("x-aiaas-version", "1")
        doubled = 2 * x
        if version == "2":
            doubled[x[:, 0] == 0] *= -1
        answer = doubled.tobytes()
        output = {"name": "output", "datatype": "FP32", "shape": shape,
                  "parameters": {"binary_data_size": len(answer)}}  # fmt: skip
        head = json.dumps(
            {"model_name": "m", "model_version": version, "outputs": [output]}
        ).encode()
        self._answer(200, head + answer, len(head))

    def _answer(self, status: int, body: bytes, head: int | None) -> None:
        self.send_response(status)
        if head is not None:
            self.send_header("Inference-Header-Content-Length", str(head))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name there)
        """Say nothing."""


@contextmanager
def doubling() -> Iterator[Any]:
    """The server; `calls` are (path, authorization, rows), `statuses` what it answers next."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Doubling)
    server.calls, server.statuses = [], []
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
