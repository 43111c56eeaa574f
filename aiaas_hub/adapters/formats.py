"""Files of other formats become Parquet, a batch at a time, without running what is in them.

The code that reads them is large and was written for files that mean well: it runs in a process
that can be killed and can read nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.ipc as pa_ipc
import pyarrow.json as pa_json
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq

from aiaas_hub.adapters.lake_tables import LakeTable, open_delta, open_iceberg

_BLOCK = 64 << 20
"""Types are inferred from the first block: the larger, the less a later row surprises."""
_LINES = 65_536
_MAX_LINE = 16 << 20

Batches = Iterator[pa.RecordBatch]


Types = Mapping[str, str]
"""Column → Arrow's name of the type that it is to have."""


def convert(
    source: Path,
    format_: str,
    target: Path,
    size: int,
    types: Types | None = None,
    snapshot: str | None = None,
) -> tuple[bool, str]:
    """Write `source` as Parquet; whether all of it is in at most `size` bytes, and which version
    of a table was read. Raises Arrow's errors for a file that is not of this format, and for
    types that it cannot have."""
    read = ""
    if format_ in _TABLES:
        table = _TABLES[format_](source, snapshot)
        schema, batches, read = table.schema, table.batches, table.snapshot
    else:
        schema, batches = _READERS[format_](source, types or {})
    with pa.OSFile(str(target), "wb") as sink:
        # Closed by hand: what is too large need not be finished.
        writer = pq.ParquetWriter(sink, schema, compression="zstd")
        for batch in batches:
            writer.write_batch(batch)
            if sink.tell() > size:
                return False, read
        writer.close()
        return bool(sink.tell() <= size), read


def _csv(source: Path, types: Types) -> tuple[pa.Schema, Batches]:
    reader = pa_csv.open_csv(
        source,
        read_options=pa_csv.ReadOptions(block_size=_BLOCK),
        convert_options=pa_csv.ConvertOptions(column_types=_known(types)),
    )
    _check_there(types, reader.schema)
    return reader.schema, iter(reader)


def _json_lines(source: Path, types: Types) -> tuple[pa.Schema, Batches]:
    read = pa_json.ReadOptions(block_size=_BLOCK)
    wanted = _known(types)
    if wanted:
        # Arrow makes a column of each that is asked for, whether or not a line has it.
        with pa_json.open_json(source, read_options=read) as found:
            _check_there(types, found.schema)
    parse = pa_json.ParseOptions(explicit_schema=pa.schema(wanted) if wanted else None)
    reader = pa_json.open_json(source, read_options=read, parse_options=parse)
    return reader.schema, iter(reader)


def _known(types: Types) -> dict[str, pa.DataType]:
    found = {}
    for name, text in types.items():
        try:
            found[name] = pa.type_for_alias(text)
        except ValueError as error:
            raise pa.ArrowInvalid(
                f"{text!r} is no type for column {name!r}: write int64, double, string, bool, "
                "date32, timestamp[us] or another of Arrow's"
            ) from error
    return found


def _check_there(types: Types, schema: pa.Schema) -> None:
    missing = [name for name in types if name not in schema.names]
    if missing:
        known = ", ".join(schema.names[:20])
        raise pa.ArrowInvalid(f"there is no column {missing[0]!r} to give a type; it has {known}")


def _untyped(
    read: Callable[[Path], tuple[pa.Schema, Batches]],
) -> Callable[[Path, Types], tuple[pa.Schema, Batches]]:
    """For a format that says itself what its types are."""

    def reader(source: Path, types: Types) -> tuple[pa.Schema, Batches]:
        if types:
            raise pa.ArrowInvalid("it has types of its own, and takes none: CAST them in a query")
        return read(source)

    return reader


def _arrow(source: Path) -> tuple[pa.Schema, Batches]:
    """The file format, which Feather is as well, or the stream format."""
    mapped = pa.memory_map(str(source))
    try:
        file = pa_ipc.open_file(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        stream = pa_ipc.open_stream(mapped)
        return stream.schema, iter(stream)
    return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))


def _orc(source: Path) -> tuple[pa.Schema, Batches]:
    file = pa_orc.ORCFile(source)
    return file.schema, (file.read_stripe(number) for number in range(file.nstripes))


def _text(source: Path) -> tuple[pa.Schema, Batches]:
    """A row for each line, in one column `text`."""
    schema = pa.schema([pa.field("text", pa.string(), nullable=False)])
    return schema, _lines(source, schema)


def _lines(source: Path, schema: pa.Schema) -> Batches:
    with source.open("rb") as file:
        lines: list[str] = []
        size = 0
        while line := file.readline(_MAX_LINE):
            if len(line) == _MAX_LINE:
                raise pa.ArrowInvalid(f"a line is longer than {_MAX_LINE >> 20} MiB")
            try:
                lines.append(line.decode().rstrip("\r\n"))
            except UnicodeDecodeError as error:
                raise pa.ArrowInvalid(f"it is not UTF-8: {error.reason}") from error
            size += len(line)
            if len(lines) == _LINES or size > _BLOCK:
                yield pa.record_batch([lines], schema=schema)
                lines, size = [], 0
        if lines:
            yield pa.record_batch([lines], schema=schema)


_READERS: dict[str, Callable[[Path, Types], tuple[pa.Schema, Batches]]] = {
    "csv": _csv,
    "jsonl": _json_lines,
    "arrow": _untyped(_arrow),
    "orc": _untyped(_orc),
    "text": _untyped(_text),
}
_TABLES: dict[str, Callable[[Path, str | None], LakeTable]] = {
    "delta": open_delta,
    "iceberg": open_iceberg,
}
