"""Names and addresses of Services, as a cluster's DNS and kube-proxy give them: a hosts file that
pods see, and on each Service's address a listener that passes connections on to a ready pod.

Which pods are ready stands in the Endpoints, which the controller manager writes. While there is
none, nothing listens: who connects is refused, as kube-proxy does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys
from pathlib import Path

import httpx

from .api import CORE, KubeApi, Object, Refused
from .clock import now

LOOK_SECONDS = 0.5
CHUNK_BYTES = 1 << 16
Backends = list[tuple[str, int]]
"""Addresses and ports of ready pods."""


class Services:
    def __init__(self, api: KubeApi, state: Path, network: str) -> None:
        self._api = api
        self._hosts = hosts_file(state)
        self._addresses: dict[tuple[str, str], str] = {}
        # Beyond those of pods.
        self._free = (f"{network}.{250}.{last}" for last in itertools.count(1))
        self._backends: dict[tuple[str, int], Backends] = {}
        self._listeners: dict[tuple[str, int], asyncio.Server] = {}
        self._hosts.write_text(Path("/etc/hosts").read_text())

    def run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                services, endpoints = await asyncio.to_thread(self._look)
            # The API server may be away: what is known goes on.
            except (httpx.HTTPError, Refused) as error:
                print(now(), "services", repr(error)[:300], file=sys.stderr, flush=True)
            else:
                self._name(services, endpoints)
                await self._listen()
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> tuple[list[Object], dict[tuple[str, str], Object]]:
        services = [
            one for one in self._api.items(f"{CORE}/services") if one["spec"].get("selector")
        ]
        endpoints = {_key(one): one for one in self._api.items(f"{CORE}/endpoints")}
        return services, endpoints

    def _name(self, services: list[Object], endpoints: dict[tuple[str, str], Object]) -> None:
        lines = [Path("/etc/hosts").read_text()]
        self._backends = {}
        for service in services:
            key = _key(service)
            subsets = endpoints.get(key, {}).get("subsets") or []
            if service["spec"].get("clusterIP") == "None":
                ready = [one["ip"] for subset in subsets for one in subset.get("addresses") or []]
            else:
                address = self._addresses.setdefault(key, "") or next(self._free)
                self._addresses[key] = address
                ready = [address]
                for port in service["spec"]["ports"]:
                    self._backends[address, port["port"]] = _ready(subsets, port)
            namespace, name = key
            stem = f"{name}.{namespace}"
            lines += [f"{ip} {stem} {stem}.svc {stem}.svc.cluster.local" for ip in ready]
        _overwrite(self._hosts, "\n".join([*lines, ""]))

    async def _listen(self) -> None:
        for place, server in list(self._listeners.items()):
            if not self._backends.get(place):
                server.close()
                del self._listeners[place]
        for place, backends in self._backends.items():
            if backends and place not in self._listeners:

                async def serve(
                    reader: asyncio.StreamReader,
                    writer: asyncio.StreamWriter,
                    place: tuple[str, int] = place,
                ) -> None:
                    await self._pass_on(reader, writer, place)

                with contextlib.suppress(OSError):  # the next look tries it again
                    self._listeners[place] = await asyncio.start_server(serve, *place)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: tuple[str, int]
    ) -> None:
        with contextlib.suppress(OSError):
            if backends := self._backends.get(place):
                far_reader, far_writer = await asyncio.open_connection(*random.choice(backends))  # noqa: S311 - no secret
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        writer.close()


def hosts_file(state: Path) -> Path:
    return state / "hosts"


def address_of(state: Path, name: str) -> str:
    """Of `SERVICE.NAMESPACE`; empty while there is none."""
    lines = [line.split() for line in hosts_file(state).read_text().splitlines()]
    return next((words[0] for words in lines if name in words[1:]), "")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


def _key(found: Object) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def _ready(subsets: list[Object], port: Object) -> Backends:
    return [
        (one["ip"], target["port"])
        for subset in subsets
        for target in subset.get("ports") or []
        if target.get("name") == port.get("name")
        for one in subset.get("addresses") or []
    ]


def _overwrite(file: Path, text: str) -> None:
    """In place, since it is mounted, and at once."""
    if file.read_text() == text:
        return
    with file.open("r+b") as opened:
        opened.write(text.encode())
        opened.truncate()
