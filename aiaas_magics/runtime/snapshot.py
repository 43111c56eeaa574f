"""A run's code: the zip the client made, kept once per node, and `train` loaded from it."""

from __future__ import annotations
import __future__

import atexit
import functools
import hashlib
import io
import json
import operator
import os
import shutil
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import Snapshot
from aiaas_magics.runtime.cache import node_cache
from aiaas_magics.runtime.failures import remember_source
from aiaas_magics.runtime.modules import importable

MAX_UNPACKED = 512 * 1024 * 1024
MAX_FILES = 10_000

SIGNATURES = {"train": "train(ctx)", "transform": "transform(batch)"}
"""What a cell defines."""
_FILES = "files"
_FUTURE = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


@dataclass(frozen=True)
class Code:
    """The user's `train` or `transform`, and what the user's files are called in tracebacks."""

    call: Callable[[Any], Any]
    files: tuple[str, ...]


def check(snapshot: Snapshot) -> None:
    """Raise `InvalidInput` if this interpreter cannot run the snapshot."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if snapshot.python != here:
        raise InvalidInput(
            f"The notebook's kernel is Python {snapshot.python}, the run's workers are {here}.",
            remedy=f"Choose a kernel with Python {here} and run the cell again.",
        )


class Snapshots(Protocol):
    """Where a run's snapshot comes from; `JobApi` is one."""

    def snapshot(self) -> bytes: ...


def fetch(api: Snapshots, snapshot: Snapshot) -> Path:
    """The directory of the unpacked snapshot, which this node keeps for other runs, too."""
    directory = node_cache() / "snapshots" / snapshot.digest
    if not directory.is_dir():
        unpack(api.snapshot(), snapshot.digest, directory)
    return directory


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
            if mode & 0o100:
                where.chmod(0o755)


def load(directory: Path, snapshot: Snapshot, name: str = "train") -> Code:
    """Run the snapshot's code and return its function `name`. Errors are the user's code's own."""
    manifest = read_manifest(directory)
    work = _work_copy(directory, snapshot)
    if work is not None:
        importable(work)
    files = own_files(directory, snapshot)
    kind = manifest.get("kind", "cell")
    if kind == "function":
        return _load_function(directory, snapshot, files)
    if kind == "recipe":
        return Code(_recipe(manifest), files)
    if kind == "script" and work is not None:
        # As if it were started in its folder, where what it reads lies.
        script = work / snapshot.entry
        os.chdir(script.parent)
        if manifest.get("call") == "main":
            arguments = [str(argument) for argument in manifest.get("arguments", [])]
            run = functools.partial(_run_main, script, snapshot.entry, arguments)
            return Code(run, files)
        package = _package(snapshot.entry)
        qualified = _free_name(f"{package}.{script.stem}".strip("."))
        module = _fresh_module(qualified, str(script), package)
        _execute(script.read_text(encoding="utf-8"), [(snapshot.entry, 0)], module)
    else:
        source = (directory / snapshot.entry).read_text(encoding="utf-8")
        pieces = [(str(name), int(line)) for name, line in manifest.get("cells", [])]
        module = _fresh_module("aiaas_cell", snapshot.entry)
        _execute(source, pieces or [(snapshot.entry, 0)], module)
    function = module.get(name)
    if not callable(function):
        head = SIGNATURES[name]
        raise InvalidInput(
            f"{snapshot.entry} does not define {head}.",
            remedy=f"Write `def {head}: …` in the cell and run it again.",
        )
    return Code(function, files)


def own_files(directory: Path, snapshot: Snapshot) -> tuple[str, ...]:
    """What tracebacks call the user's own files of an unpacked snapshot."""
    own = directory / _FILES
    names = [path.relative_to(own).as_posix() for path in own.rglob("*.py")]
    cells = [str(name) for name, _ in read_manifest(directory).get("cells", [])]
    return (snapshot.entry, *cells, *names)


def _work_copy(directory: Path, snapshot: Snapshot) -> Path | None:
    """This process's own copy of the files, which the code may change: the cache is everyone's."""
    if not (directory / _FILES).is_dir():
        return None
    work = node_cache() / "work" / f"{snapshot.digest[:16]}-{os.getpid()}"
    if not work.is_dir():
        work.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copytree(directory / _FILES, work)
        # A killed process leaves it to the cache's pruning.
        atexit.register(shutil.rmtree, work, ignore_errors=True)
    return work


def _execute(source: str, pieces: Sequence[tuple[str, int]], module: dict[str, Any]) -> None:
    """Execute a source in pieces (name in tracebacks, line before its first)."""
    lines = source.splitlines(keepends=True)
    ends = [line for _, line in pieces[1:]] + [len(lines)]
    flags = 0
    for (name, begin), end in zip(pieces, ends, strict=True):
        piece = "".join(lines[begin:end])
        remember_source(name, piece)
        code = compile(piece, name, "exec", flags=flags, dont_inherit=True)
        # `from __future__ import …` counts for the cells below, as in a notebook.
        flags |= code.co_flags & _FUTURE
        exec(code, module)  # noqa: S102 - this is what the user asked for


def _run_main(script: Path, entry: str, arguments: Sequence[str], _ctx: object) -> None:
    """Execute a script as Python itself would; `context.current()` gives it its context."""
    sys.argv = [str(script), *arguments]
    module = _fresh_module("__main__", str(script), _package(entry))
    try:
        _execute(script.read_text(encoding="utf-8"), [(entry, 0)], module)
    except SystemExit as end:
        # `sys.exit(main())` is how scripts end well, too.
        if end.code not in (None, 0):
            raise RuntimeError(f"the script ended with status {end.code}") from end


def _recipe(manifest: dict[str, Any]) -> Callable[[Any], object]:
    from aiaas_magics.runtime.recipes import find

    return find(str(manifest["recipe"])).train


def _load_function(directory: Path, snapshot: Snapshot, files: tuple[str, ...]) -> Code:
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
    return Code(train, (filename, *files))


def read_manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
    except FileNotFoundError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _package(entry: str) -> str:
    """Of which package the script is part, by its path in the snapshot; empty if of none."""
    return ".".join(PurePosixPath(entry).parent.parts)


def _free_name(name: str) -> str:
    """The module name of a script: not that of a library's, such as `json`, which others import."""
    there = sys.modules.get(name)
    of_library = getattr(there, "__spec__", None) is not None
    return f"aiaas_script_{name}" if of_library or name in sys.stdlib_module_names else name


def _fresh_module(name: str, file: str, package: str = "") -> dict[str, Any]:
    """Registered under its name: pickling of the classes that it defines needs that."""
    module = types.ModuleType(name)
    module.__file__ = file
    module.__package__ = package
    sys.modules[name] = module
    return module.__dict__
