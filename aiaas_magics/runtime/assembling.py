"""A transform's results become Parquet files, once all of them are there.

They are kept aside on disk as they come: only then are the columns' types known for all of them,
and the number of rows that a split divides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.transforms import TransformSpec
from aiaas_magics.runtime.splitting import assign

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

MAX_CLASSES = 10_000
_GROUP_ROWS = 131_072
_GROUP_BYTES = 64 << 20


class Assembly:
    """Takes results as Arrow streams, in the order of the source's rows. `directory` is its own."""

    def __init__(self, directory: Path, spec: TransformSpec) -> None:
        self._directory = directory
        self._spec = spec
        self._schemas: dict[Any, None] = {}
        self._files = 0
        self._codes: dict[Any, int] = {}
        self._classes: list[NDArray[np.int32]] = []
        self.rows = 0

    def add(self, stream: bytes) -> None:
        """Keep one result. Raises `InvalidInput` if its columns are other ones than before."""
        import pyarrow as pa

        table = pa.ipc.open_stream(stream).read_all()
        if not table.num_columns:
            # Such as `pd.DataFrame()`, for a batch of which nothing is kept.
            return
        first = next(iter(self._schemas), table.schema)
        if set(first.names) != set(table.schema.names):
            odd = sorted(set(first.names) ^ set(table.schema.names))
            raise InvalidInput(
                f"transform returned different columns for different batches: {odd[0]!r} is in "
                "some only.",
                remedy="Return the same columns for each batch.",
            )
        self._schemas[table.schema] = None
        if self._spec.stratify is not None:
            self._classes.append(self._classes_of(table, self._spec.stratify))
        (self._directory / f"{self._files}.arrows").write_bytes(stream)
        self._files += 1
        self.rows += table.num_rows

    def write(self) -> list[Path]:
        """A Parquet file for each of the spec's names. Raises `InvalidInput` if there is no
        column, or one's types do not go together."""
        import pyarrow.parquet as pq

        schema = self._schema()
        parts = self._parts()
        files = [self._directory / f"{name}.parquet" for name in self._spec.names]
        writers = [pq.ParquetWriter(file, schema, compression="zstd") for file in files]
        try:
            waiting: list[list[pa.Table]] = [[] for _ in files]
            first = 0
            for table in self._tables(schema):
                for number, chosen in enumerate(self._divided(table, parts, first)):
                    waiting[number].append(chosen)
                    if _is_group(waiting[number]):
                        _flush(writers[number], waiting[number])
                first += table.num_rows
            for writer, tables in zip(writers, waiting, strict=True):
                _flush(writer, tables)
        finally:
            for writer in writers:
                writer.close()
        return files

    def _tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        import pyarrow as pa

        for number in range(self._files):
            file = self._directory / f"{number}.arrows"
            with pa.memory_map(str(file)) as mapped:
                table = pa.ipc.open_stream(mapped).read_all()
                yield table.select(schema.names).cast(schema)
            file.unlink()

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        if not self._schemas:
            raise InvalidInput(
                "transform returned no column for any batch.",
                remedy="Return a table with columns, if with no rows.",
            )
        try:
            found = pa.unify_schemas(list(self._schemas), promote_options="permissive")
        except pa.ArrowException as error:
            raise InvalidInput(
                f"What transform returned for different batches does not go together: {error}.",
                remedy="Give each column one type: batch['x'] = batch['x'].astype('float64').",
            ) from error
        # Nothing but missing values: Parquet has no such type that others read.
        fields = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in found]
        return pa.schema([field.with_nullable(True) for field in fields])

    def _parts(self) -> NDArray[np.uint8] | None:
        import numpy as np

        if not self._spec.split:
            return None
        classes = np.concatenate(self._classes) if self._classes else None
        return assign(self.rows, self._spec.shares, self._spec.seed, classes)

    def _divided(
        self, table: pa.Table, parts: NDArray[np.uint8] | None, first: int
    ) -> list[pa.Table]:
        import pyarrow as pa

        if parts is None:
            return [table]
        here = parts[first : first + table.num_rows]
        return [table.filter(pa.array(here == n)) for n in range(len(self._spec.names))]

    def _classes_of(self, table: pa.Table, column: str) -> NDArray[np.int32]:
        """The column's values as numbers, the same one for the same value in all results."""
        import numpy as np

        if column not in table.column_names:
            raise InvalidInput(
                f"The result has no column {column!r} to stratify by.",
                remedy=f"Choose among: {', '.join(table.column_names[:20])}.",
            )
        found = np.empty(table.num_rows, dtype=np.int32)
        for row, value in enumerate(table.column(column).to_pylist()):
            try:
                found[row] = self._codes.setdefault(value, len(self._codes))
            except TypeError:
                raise InvalidInput(
                    f"Column {column!r} holds lists, which are no classes.",
                    remedy="Stratify by a column with one value in each row.",
                ) from None
            if len(self._codes) > MAX_CLASSES:
                raise InvalidInput(
                    f"Column {column!r} has more than {MAX_CLASSES:,} different values.",
                    remedy="Stratify by a column with few, such as a label.",
                )
        return found


def _is_group(tables: list[pa.Table]) -> bool:
    rows = sum(table.num_rows for table in tables)
    return rows >= _GROUP_ROWS or sum(int(t.nbytes) for t in tables) >= _GROUP_BYTES


def _flush(writer: Any, tables: list[pa.Table]) -> None:
    """Write what waits as one row group."""
    import pyarrow as pa

    if tables and (whole := pa.concat_tables(tables)).num_rows:
        writer.write_table(whole, row_group_size=whole.num_rows)
    tables.clear()
