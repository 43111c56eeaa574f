"""Delta Lake and Iceberg: tables whose log names the files that they consist of, read as of one
version.

The log is somebody's text: it may name any file, here or elsewhere. Files are read only where
they lie in the table's own directory, by this module's own opening of them, in a process that the
kernel lets read nothing else. The libraries are asked for the names and what is to be left out.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pyarrow.fs as pa_fs

DELTA_LOG = "_delta_log"
ICEBERG_METADATA = "metadata"
_METADATA_NAME = re.compile(r"v?(\d+)(-.*)?\.metadata\.json")


@dataclass(frozen=True)
class LakeTable:
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    snapshot: str
    """The version or snapshot that is read."""


def open_delta(directory: Path, snapshot: str | None) -> LakeTable:
    """Raises Arrow's error for what is no Delta table, has no such version, or cannot be read
    without its deletion vectors and column mappings."""
    with _said("deltalake", "Delta"):
        from deltalake import DeltaTable

        _without_links(directory)
        table = DeltaTable(str(directory), version=None if snapshot is None else _number(snapshot))
        # Looked at before any of them is opened.
        for name in pa.table(table.get_add_actions()).column("path").to_pylist():
            _inside(directory, str(name))
        files = pa_fs.SubTreeFileSystem(str(directory), pa_fs.LocalFileSystem())
        dataset = table.to_pyarrow_dataset(filesystem=files)
        fragments = sorted(dataset.get_fragments(), key=lambda one: str(one.path))
        schema = dataset.schema
        return LakeTable(schema, _delta_rows(fragments, schema), str(table.version()))


def _delta_rows(fragments: list[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """In the order of the files' names: the same version makes the same content."""
    for fragment in fragments:
        yield from pa_dataset.Scanner.from_fragment(fragment, schema=schema).to_batches()


def open_iceberg(directory: Path, snapshot: str | None) -> LakeTable:
    """Raises Arrow's error for what is no Iceberg table, has no such snapshot, or deletes rows by
    their values, which the library does not read."""
    with _said("pyiceberg", "Iceberg"):
        from pyiceberg.catalog.noop import NoopCatalog
        from pyiceberg.table import Table
        from pyiceberg.table.metadata import TableMetadataUtil

        _without_links(directory)
        described = _newest_metadata(directory)
        metadata = TableMetadataUtil.parse_raw(described.read_text())
        io = _table_io(directory, metadata.location)
        table = Table(("table",), metadata, str(described), io, NoopCatalog("none"))
        chosen = table.current_snapshot()
        if snapshot is not None:
            chosen = table.snapshot_by_id(_number(snapshot))
            if chosen is None:
                raise pa.ArrowInvalid(f"it has no snapshot {snapshot}")
        if chosen is None:
            # A table that nothing was written to.
            empty = table.scan().to_arrow()
            return LakeTable(empty.schema, iter(empty.to_batches()), "none")
        scan = table.scan(snapshot_id=chosen.snapshot_id)
        for task in scan.plan_files():
            for file in (task.file, *task.delete_files):
                io.path(file.file_path)
        reader = scan.to_arrow_batch_reader()
        return LakeTable(reader.schema, _iceberg_rows(reader), str(chosen.snapshot_id))


def _iceberg_rows(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with _said("pyiceberg", "Iceberg"):
        yield from reader


def _newest_metadata(directory: Path) -> Path:
    """Of the highest number; where several have it, the one written last."""
    found = []
    for file in (directory / ICEBERG_METADATA).glob("*.metadata.json"):
        named = _METADATA_NAME.fullmatch(file.name)
        if named is not None:
            path = _inside(directory, f"{ICEBERG_METADATA}/{file.name}")
            written = json.loads(path.read_text()).get("last-updated-ms", 0)
            found.append((int(named[1]), written, str(path)))
    if not found:
        raise pa.ArrowInvalid("it has no Iceberg metadata")
    return Path(max(found)[2])


def _table_io(directory: Path, location: str) -> Any:
    """Opens what the metadata names, taking the table's own address for this directory: it names
    files by where they were written, and may have been copied here."""
    from pyiceberg.io import FileIO, InputFile

    own = location.rstrip("/")

    class Input(InputFile):
        def __init__(self, location: str, path: Path) -> None:
            super().__init__(location)
            self._path = path

        def __len__(self) -> int:
            return self._path.stat().st_size

        def exists(self) -> bool:
            return self._path.is_file()

        def open(self, seekable: bool = True) -> Any:
            return pa.OSFile(str(self._path), "rb")

    class TableIO(FileIO):
        def path(self, location: str) -> Path:
            if not location.startswith(f"{own}/"):
                raise _outside(location)
            return _inside(directory, location.removeprefix(f"{own}/"), quoted=False)

        def new_input(self, location: str) -> InputFile:
            return Input(location, self.path(location))

        def new_output(self, location: str) -> Any:
            raise PermissionError("the table is only read")

        def delete(self, location: Any) -> None:
            raise PermissionError("the table is only read")

    return TableIO()


def _inside(directory: Path, name: str, quoted: bool = True) -> Path:
    """The file of the table that a name in its log means. Raises for one that leads elsewhere:
    by an address, by `..` or by a link."""
    plain = unquote(name) if quoted else name
    if urlsplit(name).scheme or plain.startswith("/") or ".." in plain.split("/"):
        raise _outside(name)
    root = directory.resolve()
    path = (root / plain).resolve()
    if not path.is_relative_to(root):
        raise _outside(name)
    return path


def _without_links(directory: Path) -> None:
    """The libraries open a log's own files by themselves."""
    for path in directory.rglob("*"):
        if path.is_symlink():
            raise pa.ArrowInvalid(f"{path.relative_to(directory)} in it is a link")


def _outside(name: str) -> pa.ArrowInvalid:
    return pa.ArrowInvalid(f"its log names {name[:200]!r}, which is not in the table's own folder")


def _number(snapshot: str) -> int:
    if not snapshot.isdecimal():
        raise pa.ArrowInvalid(f"{snapshot!r} is no number of a version")
    return int(snapshot)


@contextlib.contextmanager
def _said(package: str, kind: str) -> Iterator[None]:
    """A library's errors have many classes; what they say is what is known of the table."""
    try:
        yield
    except ImportError as error:
        raise pa.ArrowNotImplementedError(
            f"{kind} tables need the package {package}, which the platform does not have "
            "(pip install 'aiaas-hub[tables]')"
        ) from error
    except (pa.ArrowException, OSError, MemoryError):
        raise
    except Exception as error:
        raise pa.ArrowInvalid(str(error)) from error
