"""Metric points of runs, kept in chunks: Arrow streams with a column for each metric.

In a chunk a metric that a point does not hold is null, which is not the same as NaN. Columns of
metrics begin with `m.`, so that no metric's name meets `step` or `time`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from aiaas_hub.adapters.records.tables import MetricChunkRow
from aiaas_hub.domain.downsampling import Curve
from aiaas_hub.schemas.runs import MetricPoint

MERGE_BELOW = 1000
"""A chunk with fewer points takes in the next batch: small batches do not make a run a heap of
small chunks, and no batch rewrites more than this many points."""
_PREFIX = "m."


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
    table = _table(new)
    if last is not None and last.end == index and last.end - last.first < MERGE_BELOW:
        last.points = _write(_joined([_read(last.points), table]))
        last.end = index + len(new)
    else:
        session.add(
            MetricChunkRow(
                run_number=run_number, first=index, end=index + len(new), points=_write(table)
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
    for chunk in session.scalars(query.execution_options(yield_per=10)):
        skip = max(since - chunk.first, 0)
        found = _points(_read(chunk.points).slice(skip, limit - len(points)))
        points += found
        since = chunk.first + skip + len(found)
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
    tables = [_read(data) for data in session.scalars(query)]
    if not tables:
        return {}
    table = _joined(tables)
    steps, times = table["step"].to_numpy(), table["time"].to_numpy()
    positions = np.arange(len(steps))
    found = {}
    for name in table.column_names[2:]:
        column = table[name]
        values = column.to_numpy()
        if column.null_count:
            present = column.is_valid().to_numpy()
            curve = Curve(positions[present], steps[present], times[present], values[present])
        else:
            curve = Curve(positions, steps, times, values)
        found[name.removeprefix(_PREFIX)] = curve
    return found


def _table(points: Sequence[MetricPoint]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "step": pa.array([point.step for point in points], pa.int64()),
        "time": pa.array([point.time for point in points], pa.float64()),
    }
    for name in dict.fromkeys(name for point in points for name in point.values):
        present = np.array([name in point.values for point in points])
        values = np.array([point.values.get(name, 0.0) for point in points], np.float64)
        # By mask: pandas' rule, by which a NaN is a null, would lose the difference.
        columns[_PREFIX + name] = pa.array(values, pa.float64(), mask=~present)
    return pa.table(columns)


def _points(table: pa.Table) -> list[MetricPoint]:
    columns = {
        name.removeprefix(_PREFIX): table[name].to_pylist() for name in table.column_names[2:]
    }
    return [
        MetricPoint(
            step=step,
            time=time,
            values={
                name: values[position]
                for name, values in columns.items()
                if values[position] is not None
            },
        )
        for position, (step, time) in enumerate(
            zip(table["step"].to_pylist(), table["time"].to_pylist(), strict=True)
        )
    ]


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    # A metric that one of them does not have is null there.
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _write(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
