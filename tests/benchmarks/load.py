"""A client that keeps some connections busy and times each answer: `python load.py SPEC`.

SPEC is JSON: address (`unix:PATH` or `HOST:PORT`), request (base64 of the bytes to send),
connections, and seconds, without which it goes on until its standard input ends. One process and
one selector, so that it takes little of the processors that the server needs. Prints one line of
JSON.
"""

from __future__ import annotations

import base64
import json
import selectors
import socket
import sys
import time
from typing import Any


class Connection:
    """One request at a time on a connection that stays open."""

    def __init__(self, address: str) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self.buffer = b""

    def send(self, request: bytes) -> None:
        self.buffer = b""
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def read(self) -> int | None:
        """The status, once the whole answer is there."""
        piece = self.socket.recv(1 << 16)
        if not piece:
            return 0
        self.buffer += piece
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return int(head.split(b" ", 2)[1]) if len(body) >= length else None


def run(
    address: str, request: bytes, connections: int, seconds: float | None = None
) -> dict[str, Any]:
    """How many requests, each second's and failures; median, p99 and longest in milliseconds."""
    selector = selectors.DefaultSelector()
    opened = [Connection(address) for _ in range(connections)]
    for connection in opened:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(request)
    if seconds is None:
        selector.register(sys.stdin, selectors.EVENT_READ)
    took: list[float] = []
    failures = 0
    going = True
    began = now = time.perf_counter()
    while going and (seconds is None or now - began < seconds):
        for key, _ in selector.select(1.0):
            connection = key.data
            if connection is None:
                going = False
                continue
            status = connection.read()
            if status is None:
                continue
            now = time.perf_counter()
            took.append(now - connection.began)
            failures += status != 200
            connection.send(request)
    elapsed = now - began
    took.sort()
    return {
        "requests": len(took),
        "per_second": round(len(took) / elapsed),
        "p50_ms": round(1000 * took[len(took) // 2], 3),
        "p99_ms": round(1000 * took[int(len(took) * 0.99)], 3),
        "longest_ms": round(1000 * took[-1], 1),
        "failures": failures,
    }


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    spec["request"] = base64.b64decode(spec["request"])
    sys.stdout.write(json.dumps(run(**spec)) + "\n")
