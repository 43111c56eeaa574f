"""Endpoints and their keys over REST."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from aiaas_hub.schemas.drift import EndpointDrift
from aiaas_hub.schemas.endpoints import (
    Change,
    Endpoint,
    EndpointToken,
    EndpointVersion,
    Key,
    KeyCreate,
    PublishRequest,
    TrafficRequest,
    Why,
)
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.lineage import Lineage
from aiaas_hub.schemas.statistics import EndpointStatistics
from aiaas_magics.client.transport import Transport, decode, segment

PATIENCE = 120.0
_PAUSE = 0.5


class EndpointsClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Endpoint]:
        return self._transport.pages("/endpoints", Endpoint)

    def get(self, owner: str, name: str) -> Endpoint:
        return self._transport.call("GET", _path(owner, name), Endpoint)

    def publish(self, owner: str, name: str, request: PublishRequest) -> Endpoint:
        """Begin to publish; the answer's newest version is the one to follow."""
        return self._transport.call("POST", f"{_path(owner, name)}/publish", Endpoint, body=request)

    def set_traffic(self, owner: str, name: str, request: TrafficRequest) -> Endpoint:
        return self._transport.call("POST", f"{_path(owner, name)}/traffic", Endpoint, body=request)

    def promote(self, owner: str, name: str, why: str) -> Endpoint:
        path = f"{_path(owner, name)}/promote"
        return self._transport.call("POST", path, Endpoint, body=Why(why=why))

    def rollback(self, owner: str, name: str, why: str) -> Endpoint:
        path = f"{_path(owner, name)}/rollback"
        return self._transport.call("POST", path, Endpoint, body=Why(why=why))

    def history(self, owner: str, name: str) -> Iterator[Change]:
        """Newest first."""
        return self._transport.pages(f"{_path(owner, name)}/history", Change)

    def retire(self, owner: str, name: str, why: str = "") -> Endpoint:
        query = {"why": why or None}
        return self._transport.call("DELETE", _path(owner, name), Endpoint, query=query)

    def statistics(self, owner: str, name: str) -> EndpointStatistics:
        path = f"{_path(owner, name)}/statistics"
        return self._transport.call("GET", path, EndpointStatistics)

    def drift(self, owner: str, name: str) -> EndpointDrift:
        return self._transport.call("GET", f"{_path(owner, name)}/drift", EndpointDrift)

    def lineage(self, owner: str, name: str, version: int | None = None) -> Lineage:
        return self._transport.call(
            "GET", f"{_path(owner, name)}/lineage", Lineage, query={"version": version}
        )

    def token(self, owner: str, name: str) -> EndpointToken:
        """A key for the next minutes, for a signed-in user's own calls."""
        return self._transport.call("POST", f"{_path(owner, name)}/token", EndpointToken)

    def keys(self, owner: str, name: str) -> Iterator[Key]:
        return self._transport.pages(f"{_path(owner, name)}/keys", Key)

    def create_key(self, owner: str, name: str, key: KeyCreate) -> Key:
        return self._transport.call("POST", f"{_path(owner, name)}/keys", Key, body=key)

    def revoke_key(self, owner: str, name: str, key_id: str) -> Key:
        return self._transport.call("DELETE", f"{_path(owner, name)}/keys/{segment(key_id)}", Key)

    def watch(
        self,
        owner: str,
        name: str,
        version: int,
        until: Callable[[EndpointVersion], bool] = lambda version: not version.is_underway,
    ) -> Iterator[Endpoint]:
        """The endpoint each time it changes, until this version of it is published or, of a
        canary, has its share, or what `until` says of it.

        That is read from the version's state; the end of a stream says nothing.
        """
        silent_since = time.monotonic()
        while True:
            try:
                endpoint = self.get(owner, name)
                silent_since = time.monotonic()
                yield endpoint
                if _reached(endpoint, version, until):
                    return
                with self._transport.events(f"{_path(owner, name)}/events") as events:
                    try:
                        for event in events:
                            if event.name not in ("endpoint", "end"):
                                continue
                            endpoint = decode(event.data, Endpoint)
                            yield endpoint
                            if _reached(endpoint, version, until):
                                return
                    finally:
                        # While it was open the service was there, though nothing happened.
                        silent_since = time.monotonic()
            except Unavailable:
                if time.monotonic() - silent_since > PATIENCE:
                    raise
            time.sleep(_PAUSE)


def _reached(endpoint: Endpoint, version: int, until: Callable[[EndpointVersion], bool]) -> bool:
    return any(v.version == version and until(v) for v in endpoint.versions)


def _path(owner: str, name: str) -> str:
    return f"/endpoints/{segment(owner)}/{segment(name)}"
