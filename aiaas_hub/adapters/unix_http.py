"""HTTP over a unix socket. httpx can do it too, but leaves a socket that was refused open."""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """`HTTPConnection` to a socket's path."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(os.fspath(self._path))
        except OSError:
            self.sock.close()
            raise


def get(path: Path, target: str, *, timeout: float = 2) -> tuple[int, bytes]:
    """Status and body of a GET. Raises `OSError` or `http.client.HTTPException`."""
    connection = UnixConnection(path, timeout=timeout)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
