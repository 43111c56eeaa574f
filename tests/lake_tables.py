"""Real Delta Lake and Iceberg tables, and ones whose logs name files that are none of theirs."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, TableFeatures, write_deltalake
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestWriterV2,
)
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record


def rows(*xs: int) -> pa.Table:
    return pa.table({"x": pa.array(xs, pa.int64()), "part": [f"p{x % 2}" for x in xs]})


def delta(directory: Path) -> Path:
    """Version 0 has three rows in two partitions, version 1 one more, version 2 one less."""
    write_deltalake(str(directory), rows(1, 2, 3), partition_by=["part"])
    write_deltalake(str(directory), rows(4), mode="append")
    DeltaTable(str(directory)).delete("x = 1")
    return directory


def names_also(table: Path, name: str) -> None:
    """A version of a Delta table more, that names a file more."""
    log = table / "_delta_log"
    newest = sorted(log.glob("*.json"))[-1]
    added = {
        "path": name,
        "partitionValues": {"part": "p0"},
        "size": 1000,
        "modificationTime": 0,
        "dataChange": True,
    }
    following = log / f"{int(newest.stem) + 1:020}.json"
    following.write_text(json.dumps({"add": added}) + "\n")


@contextlib.contextmanager
def iceberg(directory: Path) -> Iterator[Any]:
    """An Iceberg table in `directory`/db/t with one row for each of two snapshots."""
    from pyiceberg.catalog.sql import SqlCatalog

    directory.mkdir()
    catalog = SqlCatalog(
        "test", uri=f"sqlite:///{directory}.sqlite", warehouse=f"file://{directory}"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            catalog.create_namespace("db")
            table = catalog.create_table(
                "db.t", schema=rows(1).schema, location=f"file://{directory}/db/t"
            )
            table.append(rows(1))
            table.append(rows(2))
            yield table
    finally:
        catalog.engine.dispose()


def with_deletion_vector(table: Path) -> None:
    """A version of a Delta table more, in which a row is deleted without its file being written
    anew: by a vector that stands in the log itself, the specification's own example
    (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#deletion-vectors)."""
    DeltaTable(str(table)).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    log = table / "_delta_log"
    newest = sorted(log.glob("*.json"))[-1]
    lines = [line for file in log.glob("*.json") for line in file.read_text().splitlines()]
    added = next(json.loads(line)["add"] for line in lines if line.startswith('{"add"'))
    removed = {"path": added["path"], "deletionTimestamp": 0, "dataChange": True}
    vector = {
        "storageType": "i",
        "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 40,
        "cardinality": 6,
    }
    following = log / f"{int(newest.stem) + 1:020}.json"
    actions = [{"remove": removed}, {"add": {**added, "deletionVector": vector}}]
    following.write_text("".join(json.dumps(action) + "\n" for action in actions))


def delete_by_position(table: Any, folder: Path, file: str, *positions: int) -> None:
    """A snapshot of an Iceberg table more, without these rows of this file of it."""
    deletes = folder / "data" / "positions.parquet"
    fields = [
        pa.field("file_path", pa.string(), metadata={"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), metadata={"PARQUET:field_id": "2147483545"}),
    ]
    columns = {"file_path": [file] * len(positions), "pos": list(positions)}
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), deletes)
    _add_deletes(table, DataFileContent.POSITION_DELETES, deletes, None)


def delete_by_value(table: Any, folder: Path, x: int) -> None:
    """A snapshot more, without the rows that have this `x`."""
    deletes = folder / "data" / "values.parquet"
    field = pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "1"})
    pq.write_table(pa.table({"x": [x]}, schema=pa.schema([field])), deletes)
    _add_deletes(table, DataFileContent.EQUALITY_DELETES, deletes, [1])


class _DeleteManifest(ManifestWriterV2):
    """pyiceberg reads deletes and writes none: what it would write, marked as what it is."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _AddDeletes(_FastAppendFiles):
    def new_manifest_writer(self, spec: Any) -> ManifestWriterV2:
        schema = self._transaction.table_metadata.schema()
        output = self.new_manifest_output()
        return _DeleteManifest(spec, schema, output, self._snapshot_id, self._compression)


def _add_deletes(table: Any, content: DataFileContent, file: Path, fields: Any) -> None:
    deletes = DataFile.from_args(
        content=content,
        file_path=f"file://{file}",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=file.stat().st_size,
        equality_ids=fields,
        spec_id=0,
    )
    with (
        table.transaction() as transaction,
        _AddDeletes(operation=Operation.APPEND, transaction=transaction, io=table.io) as added,
    ):
        added.append_data_file(deletes)


def stranger(path: Path) -> Path:
    """A file that is none of a table's."""
    pq.write_table(rows(666), path)
    return path
