"""Models over REST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aiaas_hub.schemas.lineage import Lineage
from aiaas_hub.schemas.models import (
    AliasTarget,
    Card,
    Model,
    ModelVersion,
    ModelVersionCreate,
)
from aiaas_magics.client.transport import Transport, segment


class ModelsClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Model]:
        return self._transport.pages("/models", Model)

    def get(
        self, owner: str, name: str, version: int | None = None, alias: str | None = None
    ) -> Model:
        """The model; its `latest` is the version asked for, by number or alias."""
        query = {"version": version, "alias": alias}
        return self._transport.call("GET", _path(owner, name), Model, query=query)

    def set_alias(self, owner: str, name: str, alias: str, version: int) -> Model:
        path = f"{_path(owner, name)}/aliases/{segment(alias)}"
        return self._transport.call("PUT", path, Model, body=AliasTarget(version=version))

    def remove_alias(self, owner: str, name: str, alias: str) -> Model:
        path = f"{_path(owner, name)}/aliases/{segment(alias)}"
        return self._transport.call("DELETE", path, Model)

    def describe(self, owner: str, name: str, version: int, card: Card) -> Model:
        path = f"{_path(owner, name)}/card"
        return self._transport.call("PUT", path, Model, query={"version": version}, body=card)

    def download(self, owner: str, name: str, version: int, target: Path) -> None:
        """Write the version's `model.onnx` to `target`."""
        query = {"version": version}
        self._transport.download(f"{_path(owner, name)}/onnx", target, query=query)

    def create_version(self, owner: str, name: str, version: ModelVersionCreate) -> ModelVersion:
        return self._transport.call(
            "POST", f"{_path(owner, name)}/versions", ModelVersion, body=version
        )

    def lineage(self, owner: str, name: str, version: int | None = None) -> Lineage:
        return self._transport.call(
            "GET", f"{_path(owner, name)}/lineage", Lineage, query={"version": version}
        )


def _path(owner: str, name: str) -> str:
    return f"/models/{segment(owner)}/{segment(name)}"
