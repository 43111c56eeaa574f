"""A Parquet file's rows as the batches that `transform(batch)` takes, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.arrow_tables import to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

    from aiaas_hub.schemas.transforms import BatchFormat

_PIECES_OF_A_WORKER = 4
"""At least, so that one that is quicker does more."""


@dataclass(frozen=True)
class Piece:
    """Some consecutive rows of one row group."""

    group: int
    first: int
    rows: int


def pieces(file: Path, workers: int, batch_size: int) -> list[Piece]:
    """The file in pieces for the workers, in the order of its rows. None lies across a border
    between batches: what a batch holds does not depend on how many workers there are."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    whole = sum(sizes)
    if not whole:
        # The code is asked all the same, for the columns.
        return [Piece(0, 0, 0)]
    wanted = -(-whole // (workers * _PIECES_OF_A_WORKER))
    # Of a row group its beginning is read again for each piece: not into more than are useful.
    step = -(-wanted // batch_size) * batch_size
    return [
        Piece(group, first, min(step, size - first))
        for group, size in enumerate(sizes)
        for first in range(0, size, step)
    ]


def batches(file: Path, piece: Piece, batch_size: int) -> Iterator[pa.Table]:
    """The piece's rows, `batch_size` at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, memory_map=True) as source:
        if not piece.rows:
            yield source.schema_arrow.empty_table()
            return
        position, end = 0, piece.first + piece.rows
        for part in source.iter_batches(batch_size, row_groups=[piece.group]):
            begin = max(piece.first - position, 0)
            count = min(end - position, part.num_rows) - begin
            position += part.num_rows
            if count > 0:
                yield pa.Table.from_batches([part.slice(begin, count)])
            if position >= end:
                return


def as_batch(table: pa.Table, format_: BatchFormat) -> Any:
    """What `transform` is given."""
    if format_ == "pyarrow":
        return table
    if format_ == "pandas":
        return table.to_pandas()
    return {name: _as_array(table.column(name)) for name in table.column_names}


def as_table(result: Any) -> pa.Table:
    """What `transform` returned. Raises `InvalidInput` if that is no table."""
    if result is None:
        raise InvalidInput(
            "transform returned nothing.", remedy="Write 'return batch' as its last line."
        )
    if isinstance(result, GeneratorType):
        raise InvalidInput(
            "transform has a yield: it returns one table for one batch.",
            remedy="Write return instead.",
        )
    if isinstance(result, Mapping) and not isinstance(result, dict):
        result = dict(result)
    if isinstance(result, dict):
        import numpy as np

        # Lists and tensors by name are meant as well.
        result = {name: np.asarray(values) for name, values in result.items()}
    try:
        table = to_arrow(result)
    except InvalidInput as error:
        raise InvalidInput(
            f"What transform returned cannot be stored. {error.message}", remedy=error.remedy
        ) from error
    # What pandas and others note down for themselves differs from batch to batch.
    return table.replace_schema_metadata(None)


def _as_array(column: pa.ChunkedArray) -> Any:
    """One of more dimensions where the column's lists have equally many numbers."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if (lists or pa.types.is_fixed_size_list(kind)) and not column.null_count and len(column):
        rows = [np.asarray(row) for row in column.to_numpy(zero_copy_only=False)]
        if len({row.shape for row in rows}) == 1 and rows[0].dtype != object:
            return np.stack(rows)
    values = column.to_numpy(zero_copy_only=False)
    # Arrow's own memory may not be written to, and the batch is the code's.
    return values if values.flags.writeable else values.copy()
