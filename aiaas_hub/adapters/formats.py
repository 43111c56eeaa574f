"""Files of other formats become Parquet, a batch at a time, without running what is in them.

The code that reads them is large and was written for files that mean well: it runs in a process
that can be killed and can read nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.ipc as pa_ipc
import pyarrow.json as pa_json
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq

_BLOCK = 64 << 20
"""Types are inferred from the first block: the larger, the less a later row surprises."""
_LINES = 65_536
_MAX_LINE = 16 << 20

Batches = Iterator[pa.RecordBatch]


def convert(source: Path, format_: str, target: Path, size: int) -> bool:
    """Write `source` as Parquet; whether all of it is in at most `size` bytes. Raises Arrow's
    errors for a file that is not of this format."""
    schema, batches = _READERS[format_](source)
    with pa.OSFile(str(target), "wb") as sink:
        # Closed by hand: what is too large need not be finished.
        writer = pq.ParquetWriter(sink, schema, compression="zstd")
        for batch in batches:
            writer.write_batch(batch)
            if sink.tell() > size:
                return False
        writer.close()
        return bool(sink.tell() <= size)


def _csv(source: Path) -> tuple[pa.Schema, Batches]:
    reader = pa_csv.open_csv(source, read_options=pa_csv.ReadOptions(block_size=_BLOCK))
    return reader.schema, iter(reader)


def _json_lines(source: Path) -> tuple[pa.Schema, Batches]:
    reader = pa_json.open_json(source, read_options=pa_json.ReadOptions(block_size=_BLOCK))
    return reader.schema, iter(reader)


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


_READERS: dict[str, Callable[[Path], tuple[pa.Schema, Batches]]] = {
    "csv": _csv,
    "jsonl": _json_lines,
    "arrow": _arrow,
    "orc": _orc,
    "text": _text,
}
