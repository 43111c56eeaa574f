"""A run's code: the zip the client made, kept once per node, and `train` loaded from it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import Snapshot
from aiaas_magics.runtime.failures import remember_source

MAX_UNPACKED = 512 * 1024 * 1024
MAX_FILES = 10_000


@dataclass(frozen=True)
class Code:
    """The user's `train` and the file names its frames have in a traceback."""

    train: Callable[[Any], object]
    files: tuple[str, ...]


def check(snapshot: Snapshot) -> None:
    """Raise `InvalidInput` if this interpreter cannot run the snapshot."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if snapshot.python != here:
        raise InvalidInput(
            f"The notebook's kernel is Python {snapshot.python}, the run's workers are {here}.",
            remedy=f"Choose a kernel with Python {here} and run the cell again.",
        )


def unpack(data: bytes, digest: str, target: Path) -> None:
    """Verify and unpack a snapshot into `target`, all of it or nothing; a repeat does nothing."""
    if target.is_dir():
        return
    actual = hashlib.sha256(data).hexdigest()
    if actual != digest:
        raise InvalidInput(
            f"The run's code arrived damaged: its hash is {actual[:12]}…, not {digest[:12]}….",
            remedy="Submit the run again.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".snapshot-", dir=target.parent))
    try:
        _extract(data, aside)
        try:
            aside.rename(target)
        except OSError:
            # Another worker of this node was first, with the same content.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _extract(data: bytes, target: Path) -> None:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise InvalidInput(
            "The run's code is not a zip archive.", remedy="Submit the run again."
        ) from error
    with archive:
        entries = archive.infolist()
        if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_UNPACKED:
            raise InvalidInput(
                "The run's code is larger than a snapshot may be.",
                remedy="Put data into a dataset, not beside the code.",
            )
        for entry in entries:
            path = PurePosixPath(entry.filename)
            mode = entry.external_attr >> 16
            plain = not mode or (mode & 0o170000) in (0, 0o100000, 0o040000)
            if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not plain:
                raise InvalidInput(
                    f"The run's code holds {entry.filename!r}, which would leave its directory.",
                    remedy="Submit files below one directory, without links.",
                )
            where = target.joinpath(*path.parts)
            if entry.is_dir():
                where.mkdir(parents=True, exist_ok=True)
                continue
            where.parent.mkdir(parents=True, exist_ok=True)
            # The sizes were promised by the archive's index; the reader holds it to them.
            with archive.open(entry) as source, where.open("wb") as file:
                shutil.copyfileobj(source, file)


def load(directory: Path, snapshot: Snapshot) -> Code:
    """Run the snapshot's code and return its `train`. Errors are the user's code's own."""
    manifest = _manifest(directory)
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    if manifest.get("kind", "cell") == "function":
        return _load_function(directory, snapshot)
    entry = snapshot.entry
    source = (directory / entry).read_text(encoding="utf-8")
    remember_source(entry, source)
    # Like a script: pickling of classes defined in the cell needs a module of this name.
    module = _fresh_main(entry)
    exec(compile(source, entry, "exec"), module)  # noqa: S102 - this is what the user asked for
    train = module.get("train")
    if not callable(train):
        raise InvalidInput(
            f"{entry} does not define train(ctx).",
            remedy="Write `def train(ctx): …` in the cell and run it again.",
        )
    own = (entry, *(str(path) for path in directory.rglob("*.py")))
    return Code(train, own)


def _load_function(directory: Path, snapshot: Snapshot) -> Code:
    import cloudpickle

    train = cloudpickle.loads((directory / "function.pkl").read_bytes())
    if not callable(train):
        raise InvalidInput(
            "The submitted object is not a function.", remedy="Pass a function train(ctx)."
        )
    code = getattr(train, "__code__", None)
    filename = getattr(code, "co_filename", snapshot.entry)
    if snapshot.source and code is not None:
        # The source as typed starts at the function's first line.
        remember_source(filename, "\n" * (code.co_firstlineno - 1) + snapshot.source)
    own = (filename, *(str(path) for path in directory.rglob("*.py")))
    return Code(train, own)


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
    except FileNotFoundError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _fresh_main(entry: str) -> dict[str, Any]:
    module = types.ModuleType("aiaas_cell")
    module.__file__ = entry
    sys.modules["aiaas_cell"] = module
    return module.__dict__
