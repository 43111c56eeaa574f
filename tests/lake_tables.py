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
from deltalake import DeltaTable, write_deltalake


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


def stranger(path: Path) -> Path:
    """A file that is none of a table's."""
    pq.write_table(rows(666), path)
    return path
