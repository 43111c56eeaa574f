"""Names and addresses of Services, as a cluster's DNS and kube-proxy give them: a hosts file that
pods see, and on each Service's address a listener that passes connections on to a ready pod.

Ready pods are found by the Service's selector: the controller manager cannot write Endpoints here,
since the API server takes no addresses of loopback in them. While no pod is ready, nothing listens:
who connects is refused, as kube-proxy does it.
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
                services, pods = await asyncio.to_thread(self._look)
            # The API server may be away: what is known goes on.
            except (httpx.HTTPError, Refused) as error:
                print(now(), "services", repr(error)[:300], file=sys.stderr, flush=True)
            else:
                self._name(services, pods)
                await self._listen()
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> tuple[list[Object], list[Object]]:
        services = self._api.items(f"{CORE}/services")
        pods = self._api.items(f"{CORE}/pods", fieldSelector="status.phase=Running")
        return [one for one in services if one["spec"].get("selector")], pods

    def _name(self, services: list[Object], pods: list[Object]) -> None:
        lines = [Path("/etc/hosts").read_text()]
        self._backends = {}
        for service in services:
            namespace, name = key = service["metadata"]["namespace"], service["metadata"]["name"]
            ready = [pod for pod in pods if _serves(pod, service)]
            if service["spec"].get("clusterIP") == "None":
                addresses = [pod["status"]["podIP"] for pod in ready]
            else:
                if key not in self._addresses:
                    self._addresses[key] = next(self._free)
                addresses = [self._addresses[key]]
                for port in service["spec"]["ports"]:
                    self._backends[addresses[0], port["port"]] = [
                        (pod["status"]["podIP"], _target(pod, port["targetPort"])) for pod in ready
                    ]
            stem = f"{name}.{namespace}"
            lines += [f"{ip} {stem} {stem}.svc {stem}.svc.cluster.local" for ip in addresses]
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


def _serves(pod: Object, service: Object) -> bool:
    labels = pod["metadata"].get("labels", {}).items()
    conditions = pod["status"].get("conditions", [])
    return (
        pod["metadata"]["namespace"] == service["metadata"]["namespace"]
        and service["spec"]["selector"].items() <= labels
        and not pod["metadata"].get("deletionTimestamp")
        and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    )


def _target(pod: Object, port: int | str) -> int:
    if isinstance(port, int):
        return port
    containers = pod["spec"]["containers"]
    named = [one for container in containers for one in container.get("ports", [])]
    return next(int(one["containerPort"]) for one in named if one.get("name") == port)


def _overwrite(file: Path, text: str) -> None:
    """In place, since it is mounted, and at once."""
    if file.read_text() == text:
        return
    with file.open("r+b") as opened:
        opened.write(text.encode())
        opened.truncate()
