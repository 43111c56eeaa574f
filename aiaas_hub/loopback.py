"""Ports of this machine's loopback address."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit

ADDRESS = "127.0.0.1"


def is_loopback(url: str) -> bool:
    """Whether this address can be reached from this machine only."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_ports(count: int) -> list[int]:
    """Different TCP ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        ports = []
        # All are held until all are chosen, or one could come twice.
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind((ADDRESS, 0))
            ports.append(int(listener.getsockname()[1]))
        return ports


def try_port(port: int) -> None:
    """Raise `OSError` if a server could not listen on this port."""
    with socket.socket() as probe:
        # As servers do: connections of a former one that are still fading do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((ADDRESS, port))


def is_free(port: int) -> bool:
    """Whether a server could listen on this port."""
    try:
        try_port(port)
    except OSError:
        return False
    return True
