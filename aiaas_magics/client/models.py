"""Models over REST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aiaas_hub.schemas.models import Model, ModelVersion, ModelVersionCreate
from aiaas_hub.schemas.runs import Lineage
from aiaas_magics.client.transport import Transport, segment


class ModelsClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Model]:
        return self._transport.pages("/models", Model)

    def get(self, owner: str, name: str, version: int | None = None) -> Model:
        """The model; its `latest` is the version asked for."""
        return self._transport.call("GET", _path(owner, name), Model, query={"version": version})

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
