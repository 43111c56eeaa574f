"""Parquet, read with pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aiaas_hub.adapters.cells import rows_of
from aiaas_hub.domain.data_ports import TableDescription
from aiaas_hub.schemas.datasets import Column
from aiaas_hub.schemas.errors import InvalidInput

MAX_BATCH_BYTES = 512 << 20


class ArrowTables:
    def describe(self, parquet: Path) -> TableDescription:
        with _open(parquet) as file:
            schema = file.schema_arrow
            columns = [
                Column(name=field.name, type=str(field.type), nullable=field.nullable)
                for field in schema
            ]
            rows = file.metadata.num_rows
        if not columns:
            raise InvalidInput("The table has no columns.", remedy="Add at least one column.")
        if len({column.name for column in columns}) != len(columns):
            raise InvalidInput(
                "Two columns have the same name.", remedy="Rename one of them and try again."
            )
        return TableDescription(columns=columns, rows=rows)

    def concatenate(self, parts: Sequence[Path], target: Path) -> None:
        with _open(parts[0]) as first:
            # Metadata of who wrote it (pandas, Spark) is about one part.
            schema = first.schema_arrow.remove_metadata()
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for part in parts:
                with _open(part) as file:
                    if not file.schema_arrow.remove_metadata().equals(schema):
                        raise InvalidInput(
                            f"{part.name} has other columns than {parts[0].name}.",
                            remedy="Register files of one table.",
                        )
                    for batch in file.iter_batches(batch_size=65_536):
                        _check_unfolded(batch)
                        writer.write_batch(batch)

    def rows(
        self, parquet: Path, columns: Sequence[str] | None, limit: int, offset: int = 0
    ) -> list[list[Any]]:
        with _open(parquet, folded=True) as file:
            chosen = _chosen(file, columns)
            groups, skipped = _groups_from(file, offset)
            batches = file.iter_batches(
                batch_size=min(limit + offset - skipped, 1024), row_groups=groups, columns=chosen
            )
            return rows_of(_after(batches, offset - skipped, chosen), limit)

    def select(
        self, parquet: Path, columns: Sequence[str] | None, limit: int | None, target: Path
    ) -> None:
        with _open(parquet, folded=True) as file:
            chosen = _chosen(file, columns)
            schema = pa.schema([file.schema_arrow.field(name) for name in chosen])
            left = file.metadata.num_rows if limit is None else limit
            with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                for batch in file.iter_batches(batch_size=8192, columns=chosen):
                    if left <= 0:
                        break
                    part = batch.select(chosen).slice(0, left)
                    left -= part.num_rows
                    _check_unfolded(part)
                    writer.write_batch(part.cast(schema))


def _groups_from(file: pq.ParquetFile, offset: int) -> tuple[list[int], int]:
    """The row groups that hold the rows from `offset` on, and how many rows come before them."""
    count = file.metadata.num_row_groups
    before = 0
    for group in range(count):
        after = before + file.metadata.row_group(group).num_rows
        if after > offset:
            return list(range(group, count)), before
        before = after
    return [], before


def _after(
    batches: Iterable[pa.RecordBatch], rows: int, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """What comes after the first `rows`, with the columns in this order."""
    for batch in batches:
        if batch.num_rows > rows:
            yield batch.select(columns).slice(rows)
        rows = max(0, rows - batch.num_rows)


def _open(parquet: Path, *, folded: bool = False) -> pq.ParquetFile:
    """`folded` keeps texts in their dictionaries: a few bytes of a file may stand for gigabytes
    that are all the same."""
    try:
        file = pq.ParquetFile(parquet)
        if not folded:
            return file
        texts = [
            field.name
            for field in file.schema_arrow
            if pa.types.is_string(field.type) or pa.types.is_binary(field.type)
        ]
        metadata = file.metadata
        file.close()
        # Mapped: of a row group that is larger than a page of rows, only what is looked at is read.
        return pq.ParquetFile(parquet, read_dictionary=texts, metadata=metadata, memory_map=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InvalidInput(
            "The file is not readable as Parquet.",
            remedy="Write it again, for example with DataFrame.to_parquet.",
        ) from error


def _chosen(file: pq.ParquetFile, columns: Sequence[str] | None) -> list[str]:
    known = file.schema_arrow.names
    if columns is None:
        return list(known)
    if len(set(columns)) != len(columns):
        raise InvalidInput("A column is named twice.", remedy="Name each column once.")
    for name in columns:
        if name not in known:
            raise InvalidInput(
                f"There is no column {name!r}.", remedy=f"Choose among: {', '.join(known[:20])}."
            )
    return list(columns)


def _check_unfolded(batch: pa.RecordBatch) -> None:
    """Raise `InvalidInput` where texts would take too much memory outside their dictionaries."""
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.binary_length(column.dictionary).take(column.indices)
            if (pc.sum(lengths).as_py() or 0) > MAX_BATCH_BYTES:
                raise InvalidInput(
                    "The texts of this dataset are too large to be selected from.",
                    remedy="Load it without --columns and --limit.",
                )
