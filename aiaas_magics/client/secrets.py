"""Secrets over REST."""

from __future__ import annotations

from collections.abc import Iterator

from aiaas_hub.schemas.secrets import Secret, SecretPut
from aiaas_magics.client.transport import Transport, segment


class SecretsClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Secret]:
        """Mine, by name."""
        return self._transport.pages("/secrets", Secret)

    def put(self, owner: str, name: str, secret: SecretPut) -> Secret:
        return self._transport.call("PUT", _path(owner, name), Secret, body=secret)

    def delete(self, owner: str, name: str) -> Secret:
        return self._transport.call("DELETE", _path(owner, name), Secret)


def _path(owner: str, name: str) -> str:
    return f"/secrets/{segment(owner)}/{segment(name)}"
