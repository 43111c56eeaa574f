"""The model repository on disk, written so that a crash at any line leaves it whole.

    <root>/models/<model>/config.pbtxt          replaced by rename, never edited
    <root>/models/<model>/<N>/model.onnx        a directory that came by one rename
    <root>/models/<model>/<N>/manifest.json     its SHA-256, checked before the rename
    <root>/models/<model>/<N>/inputs.json       what its inputs are compared with, see `Drifting`
    <root>/staging/…                            everything unfinished or on its way out

Triton parses every name in a model's directory as a version (`9.tmp` becomes 9 and hangs each
later load; beyond int64 the server dies), and reloads all versions when another entry appears:
so nothing but these is ever put there, what somebody else puts there is taken away before a load,
and everything unfinished lies in `staging`, on the same file system. What is here can be served by
NVIDIA's full container as it stands.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from aiaas_hub.domain.ports import StagedVersion
from aiaas_hub.schemas.drift import InputReference
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound

log = logging.getLogger(__name__)

MAX_VERSION = 2**31 - 1
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")

_CONFIGURATION = "config.pbtxt"
_REFERENCE = "inputs.json"
"""The backend reads it, too: `onnxruntime_backend/input_counts.py`."""


class Repository:
    """Files only; whoever uses it tells Triton."""

    def __init__(self, root: Path) -> None:
        self.models_root = root / "models"
        self._staging = root / "staging"
        self._is_swept = False
        self._guard = threading.Lock()

    def prepare(self) -> None:
        """Make the directories, before anything else is called. The first time what a former
        process left in `staging` is removed: nobody goes on with it."""
        with self._guard:
            for directory in (self.models_root, self._staging):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_swept:
                for leftover in self._staging.iterdir():
                    _delete(leftover)
                self._is_swept = True

    def models(self) -> set[str]:
        return {path.name for path in self.models_root.iterdir() if path.is_dir()}

    def versions(self, model: str) -> set[int]:
        """Versions whose files are installed."""
        directory = self._model(model)
        if not directory.is_dir():
            return set()
        return {int(path.name) for path in directory.iterdir() if _is_version(path)}

    def sweep(self, model: str) -> None:
        """Take away what is neither a version nor the configuration. Triton reads the beginning of
        a name as a number: `9.tmp` would be version 9, and hang every load from then on; any other
        entry has all versions loaded anew."""
        directory = self._model(model)
        for path in directory.iterdir() if directory.is_dir() else ():
            if path.name != _CONFIGURATION and not _is_version(path):
                log.warning("%s does not belong into the model repository: removed", path.name)
                aside = self._staging / f".removed.{secrets.token_hex(6)}"
                path.rename(aside)
                _delete(aside)

    def stage(
        self, model: str, version: int, onnx: Path, reference: InputReference | None = None
    ) -> StagedVersion:
        """Copy the file aside. If this version is installed already, with this content, nothing
        is done; with another content it raises `Conflict`.

        Raises `OSError` where there is no room for it, before the rest is taken from the others.
        """
        staged = StagedVersion(model, version, self._staging / f"{model}@{_checked(version)}")
        installed = self._version(model, version)
        if installed.is_dir():
            if _read_manifest(installed).get("sha256") != _sha256(onnx):
                raise Conflict(
                    f"Version {version} of this endpoint holds another model already.",
                    remedy="Publish again: each publish gets a version of its own.",
                )
            return replace(staged, memory=_memory(installed))
        _delete(staged.path)
        if shutil.disk_usage(self._staging).free < onnx.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._staging))
        with self.discarded_on_failure(staged):
            staged.path.mkdir(mode=0o700)
            shutil.copyfile(onnx, staged.path / "model.onnx")
            if reference is not None:
                (staged.path / _REFERENCE).write_text(reference.model_dump_json() + "\n")
        return staged

    @contextmanager
    def discarded_on_failure(self, staged: StagedVersion) -> Iterator[None]:
        """Version numbers are never used again, so that nobody else would remove it."""
        try:
            yield
        except BaseException:
            self.discard(staged)
            raise

    def reference(self, model: str, version: int) -> InputReference | None:
        """What the version's inputs are compared with, as it was staged."""
        path = self._version(model, version) / _REFERENCE
        try:
            return InputReference.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            log.warning("%s of %s@%s is damaged", _REFERENCE, model, version)
            return None

    def is_installed(self, staged: StagedVersion) -> bool:
        return self._version(staged.model, staged.version).is_dir()

    def memory(self) -> dict[tuple[str, int], int]:
        """Bytes, by model and installed version."""
        return {
            (model, version): _memory(self._version(model, version))
            for model in self.models()
            for version in self.versions(model)
        }

    def seal(self, staged: StagedVersion) -> None:
        """Write the manifest of a checked version, and all of it to the disk."""
        model_file = staged.path / "model.onnx"
        manifest = {
            "sha256": _sha256(model_file),
            "size": model_file.stat().st_size,
            "memory": staged.memory,
        }
        (staged.path / "manifest.json").write_text(json.dumps(manifest) + "\n")
        _sync([*staged.path.iterdir(), staged.path, self._staging])

    def discard(self, staged: StagedVersion) -> None:
        _delete(staged.path)

    def install(self, staged: StagedVersion) -> None:
        """Rename into place. Raises `Conflict` if the staged files are not what was sealed."""
        target = self._version(staged.model, staged.version)
        if target.is_dir():
            _delete(staged.path)
            return
        self.sealed(staged)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        staged.path.rename(target)
        _sync([target.parent, self.models_root, self._staging])

    def sealed(self, staged: StagedVersion) -> str:
        """The model's SHA-256 as it was sealed. Raises `Conflict` if it is another one now."""
        if not staged.path.is_dir():
            raise Conflict(
                "This version was not staged, or its files are gone.", remedy="Publish it again."
            )
        model_file = staged.path / "model.onnx"
        sealed = _read_manifest(staged.path).get("sha256")
        if not model_file.is_file() or sealed != _sha256(model_file):
            _delete(staged.path)
            raise Conflict(
                "The staged files are damaged, perhaps by a crash or a full disk.",
                remedy="Publish it again.",
            )
        return str(sealed)

    def read_configuration(self, model: str) -> str | None:
        try:
            return (self._model(model) / _CONFIGURATION).read_text()
        except FileNotFoundError:
            return None

    def write_configuration(self, model: str, text: str) -> None:
        """Replace `config.pbtxt` by rename, newer than any before it in the file system's eyes:
        Triton looks for a change only where the time of the file is strictly later."""
        path = self._model(model) / _CONFIGURATION
        aside = self._staging / f".config.{secrets.token_hex(6)}"
        try:
            aside.write_text(text)
            _sync([aside])
            now = time.time_ns()
            if path.exists():
                now = max(now, path.stat().st_mtime_ns + 1_000_000)
            os.utime(aside, ns=(now, now))
            aside.rename(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync([path.parent])

    def touch(self, model: str, versions: Iterable[int]) -> None:
        """Make model files look newer, so that the next load starts their instances anew."""
        for version in versions:
            path = self._version(model, version) / "model.onnx"
            now = max(time.time_ns(), path.stat().st_mtime_ns + 1_000_000)
            os.utime(path, ns=(now, now))

    def require(self, model: str, versions: Iterable[int]) -> None:
        """Raise `NotFound` unless these versions' files are installed."""
        missing = sorted(set(versions) - self.versions(model))
        if missing:
            raise NotFound(
                f"Version {missing[0]} is not in the model repository.",
                remedy="Publish it again.",
            )

    def remove(self, model: str, version: int | None = None) -> None:
        """Delete a version or the whole model; a repeat does nothing."""
        path = self._model(model) if version is None else self._version(model, version)
        if not path.exists():
            return
        # Out by one rename first: Triton never sees a half-deleted version.
        aside = self._staging / f".removed.{secrets.token_hex(6)}"
        path.rename(aside)
        _sync([path.parent])
        _delete(aside)

    def _model(self, model: str) -> Path:
        if not _MODEL_NAME.fullmatch(model):
            raise InvalidInput(
                f"{model!r} is not a model's name in Triton.",
                remedy="Such names are made of small letters, digits and '-'.",
            )
        return self.models_root / model

    def _version(self, model: str, version: int) -> Path:
        return self._model(model) / str(_checked(version))


def _is_version(path: Path) -> bool:
    name = path.name
    return path.is_dir() and name.isascii() and name.isdecimal() and str(int(name)) == name


def _checked(version: int) -> int:
    if not 1 <= version <= MAX_VERSION:
        raise InvalidInput(
            f"{version} is not a version of an endpoint.", remedy="Versions count from 1."
        )
    return version


def _read_manifest(directory: Path) -> dict[str, object]:
    try:
        content = json.loads((directory / "manifest.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _memory(directory: Path) -> int:
    """What the manifest says; those of before it did say the model's size."""
    manifest = _read_manifest(directory)
    found = manifest.get("memory") or manifest.get("size")
    return found if isinstance(found, int) else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
