"""Names of Services, as a cluster's DNS answers them
(https://github.com/kubernetes/dns/blob/master/docs/specification.md): the addresses of the pods
that are ready. There are no addresses of Services here, so those of its pods stand for each."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import httpx

from .api import KubeApi, Object, Refused

SLICES = "/apis/discovery.k8s.io/v1beta1"
DOMAIN = "svc.cluster.local"
_A, _AAAA = 1, 28
_ANSWER, _NO_SUCH_NAME = 0x8480, 0x8483
_TTL_SECONDS = 1


def resolver(namespace: str, server: str) -> str:
    """What a pod has as /etc/resolv.conf."""
    search = f"{namespace}.{DOMAIN} {DOMAIN} {DOMAIN.partition('.')[2]}"
    return f"nameserver {server}\nsearch {search}\noptions ndots:5 timeout:2\n"


class Names:
    """Answers at port 53 of `address` until the process ends."""

    def __init__(self, api: KubeApi, address: str) -> None:
        self._api = api
        self._known: dict[str, tuple[float, list[str] | None]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))

    def start(self) -> None:
        threading.Thread(target=self._serve, daemon=True, name="names").start()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(2048)
            try:
                self._socket.sendto(self._answer(question), asker)
            except (IndexError, struct.error, UnicodeDecodeError):
                continue

    def _answer(self, question: bytes) -> bytes:
        labels, position = [], 12
        while length := question[position]:
            labels.append(question[position + 1 : position + 1 + length].decode())
            position += 1 + length
        end = position + 5
        (kind,) = struct.unpack("!H", question[position + 1 : position + 3])
        found = self._addresses(".".join(labels).lower())
        addresses = found or [] if kind == _A else []
        flags = _NO_SUCH_NAME if found is None else _ANSWER
        head = question[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0)
        # Each points to the name in the question.
        records = (
            struct.pack("!HHHIH", 0xC00C, _A, 1, _TTL_SECONDS, 4) + socket.inet_aton(one)
            for one in addresses
        )
        return head + question[12:end] + b"".join(records)

    def _addresses(self, name: str) -> list[str] | None:
        """None: there is no such Service."""
        parts = name.removesuffix(f".{DOMAIN}").split(".")
        if not name.endswith(f".{DOMAIN}") or len(parts) != 2:
            return None
        at, known = self._known.get(name, (0.0, None))
        if time.monotonic() - at > _TTL_SECONDS / 2:
            service, namespace = parts
            # Slices: the API server allows no address of loopback in Endpoints.
            path = f"{SLICES}/namespaces/{namespace}/endpointslices"
            selector = f"kubernetes.io/service-name={service}"
            # The server may be away: what was known holds.
            with contextlib.suppress(httpx.HTTPError, Refused):
                known = _ready(self._api.items(path, labelSelector=selector))
            self._known[name] = (time.monotonic(), known)
        return known


def _ready(slices: list[Object]) -> list[str] | None:
    if not slices:
        return None
    return sorted(
        address
        for one in slices
        if one["addressType"] == "IPv4"
        for endpoint in one.get("endpoints") or []
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    )
