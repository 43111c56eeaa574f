"""Metric points of runs, kept in chunks: Arrow streams of steps, times and lists of values.

A value stands next to the number of its metric's name, so that points of different metrics take no
more room than their values do. A metric that a point does not hold is not in its list, which is
not the same as NaN.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.tables import MetricChunkRow
from aiaas_hub.domain.downsampling import Curve
from aiaas_hub.schemas.runs import MetricPoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

MERGE_BELOW = 1000
"""A chunk with fewer points takes in the next batch: small batches do not make a run a heap of
small chunks, and no batch rewrites more than this many points."""
_NAMES = b"names"
_VALUE = pa.struct([("name", pa.int32()), ("value", pa.float64())])


def append(
    session: Session, run_number: int, index: int, points: Sequence[MetricPoint]
) -> Sequence[MetricPoint]:
    """Add `points`, the first of which has this index; what was added. Those that are not above
    all that is there are repeats, and dropped."""
    last = session.scalars(
        select(MetricChunkRow)
        .where(MetricChunkRow.run_number == run_number)
        .order_by(MetricChunkRow.first.desc())
        .limit(1)
    ).one_or_none()
    end = 0 if last is None else last.end
    new = points[max(end - index, 0) :]
    if not new:
        return new
    index = max(index, end)
    chunk = _chunk(new)
    if last is not None and last.end == index and last.end - last.first < MERGE_BELOW:
        last.points = _write(_joined(_read(last.points), chunk))
        last.end = index + len(new)
    else:
        session.add(
            MetricChunkRow(
                run_number=run_number, first=index, end=index + len(new), points=_write(chunk)
            )
        )
    return new


def next_index(session: Session, run_number: int) -> int:
    query = select(func.max(MetricChunkRow.end)).where(MetricChunkRow.run_number == run_number)
    return session.scalar(query) or 0


def read(
    session: Session, run_number: int, since: int, limit: int
) -> tuple[list[MetricPoint], int]:
    """At most `limit` points from index `since` on, and the index after the last of them."""
    query = (
        select(MetricChunkRow)
        .where(MetricChunkRow.run_number == run_number, MetricChunkRow.end > since)
        .order_by(MetricChunkRow.first)
    )
    points: list[MetricPoint] = []
    # Closed, as it may be left before its end: PostgreSQL keeps a cursor for it.
    with session.scalars(query.execution_options(yield_per=10)) as rows:
        for row in rows:
            skip = max(since - row.first, 0)
            found = _points(_read(row.points), skip, skip + limit - len(points))
            points += found
            since = row.first + skip + len(found)
            if len(points) == limit:
                break
    return points, since


def curves(session: Session, run_number: int) -> dict[str, Curve]:
    """All of the run's points, by metric."""
    query = (
        select(MetricChunkRow.points)
        .where(MetricChunkRow.run_number == run_number)
        .order_by(MetricChunkRow.first)
    )
    parts: dict[str, list[Curve]] = defaultdict(list)
    first = 0
    for data in session.scalars(query.execution_options(yield_per=10)):
        chunk = _read(data)
        of_value = np.repeat(np.arange(len(chunk.steps)), np.diff(chunk.offsets))
        # By metric, each in the order of its points.
        order = np.argsort(chunk.name_of, kind="stable")
        ends = np.cumsum(np.bincount(chunk.name_of, minlength=len(chunk.names)))
        for name, chosen in zip(chunk.names, np.split(order, ends)[:-1], strict=True):
            positions = of_value[chosen]
            parts[name].append(
                Curve(
                    first + positions,
                    chunk.steps[positions],
                    chunk.times[positions],
                    chunk.values[chosen],
                )
            )
        first += len(chunk.steps)
    # Each metric's parts are let go of as they are joined.
    return {
        name: Curve(*map(np.concatenate, zip(*parts.pop(name), strict=True)))
        for name in list(parts)
    }


class _Chunk(NamedTuple):
    """n points with v values in all."""

    steps: NDArray[np.int64]
    """(n,)"""
    times: NDArray[np.float64]
    """(n,), seconds since the epoch"""
    offsets: NDArray[np.int32]
    """(n + 1,): the values of point i are those from `offsets[i]` to `offsets[i + 1]`"""
    name_of: NDArray[np.int32]
    """(v,): index into `names`"""
    values: NDArray[np.float64]
    """(v,)"""
    names: list[str]


def _chunk(points: Sequence[MetricPoint]) -> _Chunk:
    names: dict[str, int] = {}
    of_values = [names.setdefault(name, len(names)) for point in points for name in point.values]
    return _Chunk(
        np.array([point.step for point in points], np.int64),
        np.array([point.time for point in points], np.float64),
        np.cumsum([0, *(len(point.values) for point in points)], dtype=np.int32),
        np.array(of_values, np.int32),
        np.array([value for point in points for value in point.values.values()], np.float64),
        list(names),
    )


def _joined(one: _Chunk, other: _Chunk) -> _Chunk:
    numbers = {name: number for number, name in enumerate(one.names)}
    of_other = [numbers.setdefault(name, len(numbers)) for name in other.names]
    return _Chunk(
        np.concatenate([one.steps, other.steps]),
        np.concatenate([one.times, other.times]),
        np.concatenate([one.offsets, one.offsets[-1] + other.offsets[1:]]),
        np.concatenate([one.name_of, np.array(of_other, np.int32)[other.name_of]]),
        np.concatenate([one.values, other.values]),
        list(numbers),
    )


def _points(chunk: _Chunk, start: int, end: int) -> list[MetricPoint]:
    """Those from `start` to before `end`, or to the chunk's end."""
    end = min(end, len(chunk.steps))
    first, last = int(chunk.offsets[start]), int(chunk.offsets[end])
    names = [chunk.names[number] for number in chunk.name_of[first:last].tolist()]
    values = chunk.values[first:last].tolist()
    bounds = (chunk.offsets[start : end + 1] - first).tolist()
    return [
        MetricPoint(step=step, time=time, values=dict(zip(names[a:b], values[a:b], strict=True)))
        for step, time, a, b in zip(
            chunk.steps[start:end].tolist(),
            chunk.times[start:end].tolist(),
            bounds[:-1],
            bounds[1:],
            strict=True,
        )
    ]


def _array(arrow: pa.DataType, values: NDArray[Any]) -> pa.Array:
    """Of the same bytes. Arrow's own `array` and `to_numpy` import pandas first: half a second of
    the first batch, and its memory for ever."""
    buffer = pa.py_buffer(np.ascontiguousarray(values, dtype=arrow.to_pandas_dtype()))
    return pa.Array.from_buffers(arrow, len(values), [None, buffer])


def _write(chunk: _Chunk) -> bytes:
    values = pa.StructArray.from_arrays(
        [_array(pa.int32(), chunk.name_of), _array(pa.float64(), chunk.values)],
        fields=list(_VALUE),
    )
    table = pa.table(
        {
            "step": _array(pa.int64(), chunk.steps),
            "time": _array(pa.float64(), chunk.times),
            "values": pa.ListArray.from_arrays(_array(pa.int32(), chunk.offsets), values),
        },
        metadata={_NAMES: json.dumps(chunk.names)},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read(data: bytes) -> _Chunk:
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all().combine_chunks()
    lists = table["values"].chunk(0)
    values = lists.values
    return _Chunk(
        np.asarray(np.from_dlpack(table["step"].chunk(0)), np.int64),
        np.asarray(np.from_dlpack(table["time"].chunk(0)), np.float64),
        np.asarray(np.from_dlpack(lists.offsets), np.int32),
        np.asarray(np.from_dlpack(values.field("name")), np.int32),
        np.asarray(np.from_dlpack(values.field("value")), np.float64),
        json.loads(table.schema.metadata[_NAMES]),
    )
