"""What each group of servers serves, in the object store. The service writes it, the pods read it.

    <root>/files/<sha256>                the model, by its content: whoever fetches it checks it
    <root>/groups/<group>/<model>.json   its configuration, and which of its versions are served

A pod that starts takes everything from here, so it needs neither the service nor another pod.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from aiaas_hub.adapters.object_store import open_store, reached
from aiaas_hub.schemas.errors import Unavailable


class VersionFile(BaseModel):
    sha256: str
    memory: int = 0
    """Bytes that all its instances take."""


class ModelRecord(BaseModel):
    """One model of a group. A version is installed before it is served."""

    config: str = ""
    """`config.pbtxt` as Triton reads it."""
    served: list[int] = []
    versions: dict[int, VersionFile] = {}


class Catalogue:
    """In a bucket, which shows an object when all of it is there. Every call raises `Unavailable`
    while it cannot be reached."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = open_store(url)

    def groups(self) -> set[str]:
        return self._names("groups")

    def models(self, group: str) -> set[str]:
        names = self._names(f"groups/{group}")
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def read(self, group: str, model: str) -> ModelRecord | None:
        """None: the group has no such model."""
        try:
            with reached():
                data = self._fs.cat_file(self._record(group, model))
        except FileNotFoundError:
            return None
        try:
            return ModelRecord.model_validate_json(data)
        except ValidationError as error:
            raise Unavailable(
                f"What is recorded of the model {model} cannot be read.",
                remedy="Publish it again.",
            ) from error

    def write(self, group: str, model: str, record: ModelRecord) -> None:
        """At once: readers see what was there before, or all of this."""
        with reached():
            self._put(self._record(group, model), record.model_dump_json().encode())

    def forget(self, group: str, model: str) -> None:
        with reached():
            self._remove(self._record(group, model))

    def keep(self, onnx: Path, sha256: str) -> None:
        """Store a file under its hash, unless it is there."""
        key = f"{self._root}/files/{sha256}"
        with reached():
            if not self._fs.exists(key):
                self._put(key, onnx.read_bytes())

    def drop(self, sha256: str) -> None:
        with reached():
            self._remove(f"{self._root}/files/{sha256}")

    def fetch(self, sha256: str, target: Path) -> None:
        """Raises `Unavailable` where the content is gone, or is not what its name says."""
        try:
            with reached():
                self._fs.get_file(f"{self._root}/files/{sha256}", str(target))
        except FileNotFoundError as error:
            raise Unavailable(
                "A model's file is not in the object store.", remedy="Publish it again."
            ) from error
        with target.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            target.unlink()
            raise Unavailable(
                "A model's file in the object store is damaged: its hash is another one.",
                remedy="Publish it again.",
            )

    def _names(self, directory: str) -> set[str]:
        try:
            with reached():
                # Another process writes there.
                self._fs.invalidate_cache()
                found = self._fs.ls(f"{self._root}/{directory}", detail=False)
        except FileNotFoundError:
            return set()
        return {str(path).rstrip("/").rpartition("/")[2] for path in found}

    def _put(self, key: str, content: bytes) -> None:
        self._fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(key, content)

    def _remove(self, key: str) -> None:
        if self._fs.exists(key):
            self._fs.rm_file(key)

    def _record(self, group: str, model: str) -> str:
        return f"{self._root}/groups/{group}/{model}.json"
