"""Ports of this machine's loopback address."""

from __future__ import annotations

import ipaddress
import random
import socket
from urllib.parse import urlsplit

ADDRESS = "127.0.0.1"
_UNCLAIMED = range(20_000, 32_768)
"""Above the ports of Ray's workers (10002 to 19999) and below those that a system gives to outgoing
connections (from 32768 on Linux, see ip(7) for `ip_local_port_range`; from 49152 elsewhere): one
of these would be taken by any connection made before its server listens, which may be seconds."""


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
    """Different TCP ports that nobody listens on now, nor any outgoing connection will take.

    Raises `StopIteration` where all thirteen thousand are taken.
    """
    found = (port for port in random.sample(_UNCLAIMED, len(_UNCLAIMED)) if is_free(port))
    return [next(found) for _ in range(count)]


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
