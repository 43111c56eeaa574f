"""The typed client of the service: wire models in, wire models out.

Needs no notebook: nothing here imports IPython, torch, ray or pandas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pydantic import RootModel

from aiaas_hub.schemas.blobs import Blob, PartialUpload
from aiaas_hub.schemas.datasets import parse_dataset_reference
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Model
from aiaas_hub.schemas.names import Reference, parse_model, parse_reference
from aiaas_hub.schemas.platform import Me, WorkerProfile
from aiaas_magics.client.datasets import DatasetsClient
from aiaas_magics.client.endpoints import EndpointsClient
from aiaas_magics.client.models import ModelsClient
from aiaas_magics.client.runs import RunsClient
from aiaas_magics.client.secrets import SecretsClient
from aiaas_magics.client.transport import Connection, Transport, segment
from aiaas_magics.client.usage import UsageClient

_Profiles = RootModel[list[WorkerProfile]]

__all__ = ["Client", "Connection", "Transport", "current_client"]


PIECE = 4 << 20
"""Bytes that a larger file is sent in at a time."""


class Client:
    """All of the service, by resource. Raises `AiaasError` from every call."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.datasets = DatasetsClient(transport)
        self.runs = RunsClient(transport)
        self.models = ModelsClient(transport)
        self.endpoints = EndpointsClient(transport)
        self.secrets = SecretsClient(transport)
        self.usage = UsageClient(transport)
        self._user: str | None = None

    @classmethod
    def from_environment(cls) -> Client:
        return cls(Transport(Connection.from_environment()))

    def me(self) -> Me:
        me = self.transport.call("GET", "/me", Me)
        self._user = me.user
        return me

    def profiles(self) -> list[WorkerProfile]:
        """The sizes of workers that are open to me."""
        return self.transport.call("GET", "/profiles", _Profiles).root

    @property
    def user(self) -> str:
        """My own name, asked for once: a token never changes its owner."""
        return self._user if self._user is not None else self.me().user

    def resolve(self, text: str) -> tuple[str, str, int | None]:
        """`[owner/]name[@version]` as owner, name and version; a bare name is mine."""
        reference: Reference = parse_reference(text)
        return reference.owner or self.user, reference.name, reference.version

    def model(self, text: str) -> Model:
        """The version of a model that `[owner/]name[@version or @alias]` means now."""
        reference, alias = parse_model(text)
        owner = reference.owner or self.user
        return self.models.get(owner, reference.name, reference.version, alias)

    def resolve_dataset(self, text: str) -> tuple[str, str, int | str | None]:
        """The same of a dataset, whose version may be a tag."""
        reference = parse_dataset_reference(text)
        return reference.owner or self.user, reference.name, reference.version

    def upload(self, content: bytes | Path) -> Blob:
        """Store bytes or a file under their hash; the same content is stored once."""
        return self.transport.call("POST", "/blobs", Blob, content=content)

    def upload_file(self, path: Path, progress: Callable[[int, int], None] | None = None) -> Blob:
        """Store a file in pieces. One that was interrupted goes on where it was: the platform
        keeps what it has for a day. `progress` is called with bytes sent and bytes in all."""
        size = path.stat().st_size
        if size <= PIECE:
            return self.upload(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            at = f"/uploads/{segment(self.user)}/{digest}"
            sent = self.transport.call("GET", at, PartialUpload).received
            while sent < size:
                if progress is not None:
                    progress(sent, size)
                file.seek(sent)
                piece = file.read(PIECE)
                if not piece:
                    raise InvalidInput(
                        f"{path.name} became shorter while it was sent.", remedy="Send it again."
                    )
                query = {"offset": sent}
                answer = self.transport.call("PUT", at, PartialUpload, query=query, content=piece)
                sent = answer.received
        blob = self.transport.call("POST", at, Blob)
        if progress is not None:
            progress(size, size)
        return blob


def current_client() -> Client:
    """The client of this process's environment, made once for each address and token."""
    return _client_of(Connection.from_environment())


@cache
def _client_of(connection: Connection) -> Client:
    return Client(Transport(connection))
