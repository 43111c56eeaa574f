"""A shard that is read as it is needed has the rows that it would have at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.datasets import RunDataset
from aiaas_magics.runtime.streaming import StreamingLoader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """1,003 rows in row groups of 100."""
    rows = np.arange(1003)
    table = pa.table(
        {"x": rows, "pair": list(np.stack([rows, rows * 2], axis=1).astype("float32"))}
    )
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=100)
    return tmp_path / "data.parquet"


def loader(path: Path, rank: int = 0, world: int = 1, **options: object) -> StreamingLoader:
    made = RunDataset("d", path, rank, world).to_torch(32, stream=True, **options)  # type: ignore[arg-type]
    assert isinstance(made, StreamingLoader)
    return made


def rows(stream: StreamingLoader) -> list[int]:
    batches = list(stream)
    assert len(batches) == len(stream)
    assert all(len(batch["x"]) == 32 for batch in batches[:-1])
    for batch in batches:
        assert torch.equal(batch["pair"][:, 1], 2 * batch["x"].float())
    return [int(x) for batch in batches for x in batch["x"]]


def test_in_order_it_is_the_file(path: Path) -> None:
    stream = loader(path)
    assert rows(stream) == list(range(1003))
    assert rows(stream) == list(range(1003))
    assert list(loader(path, columns=["x"]).__iter__().__next__()) == ["x"]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world", [2, 3, 7])
def test_the_workers_have_all_rows_and_equally_many(path: Path, world: int, shuffle: bool) -> None:
    shards = [rows(loader(path, rank, world, shuffle=shuffle)) for rank in range(world)]
    assert {len(shard) for shard in shards} == {-(-1003 // world)}
    together = [row for shard in shards for row in shard]
    assert set(together) == set(range(1003))
    # Those that are there twice are as many as do not divide.
    assert len(together) - 1003 < world


def test_a_seed_decides_the_order(path: Path) -> None:
    stream = loader(path, shuffle=True, seed=7)
    first, second = rows(stream), rows(stream)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(1003))
    again = loader(path, shuffle=True, seed=7)
    assert [rows(again), rows(again)] == [first, second]
    assert rows(loader(path, shuffle=True, seed=8)) != first
    # Rows that lay beside each other no longer do.
    assert sum(abs(a - b) == 1 for a, b in pairwise(first)) < 20


def test_an_incomplete_batch_may_be_left_out(path: Path) -> None:
    stream = loader(path, drop_last=True)
    assert len(stream) == len(list(stream)) == 1003 // 32


def test_what_is_no_tensor_is_refused_when_it_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "data.parquet")
    stream = loader(tmp_path / "data.parquet")
    with pytest.raises(InvalidInput, match="text"):
        next(iter(stream))


def test_an_empty_dataset_has_no_batches(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([], pa.int64())}), tmp_path / "data.parquet")
    assert list(loader(tmp_path / "data.parquet")) == []


def test_only_some_of_it_is_in_memory(tmp_path: Path) -> None:
    """A shard of 400 MB is gone through with far less."""
    pa.default_memory_pool().release_unused()
    path = tmp_path / "large.parquet"
    schema = pa.schema([("x", pa.float64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for _ in range(50):
            writer.write_table(pa.table({"x": np.zeros(1_000_000)}, schema=schema))
    before = pa.total_allocated_bytes()
    peak = 0
    stream = RunDataset("d", path, 0, 1).to_torch(100_000, stream=True, shuffle=True)
    seen = 0
    for batch in stream:
        seen += len(batch["x"])
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert seen == 50_000_000
    assert peak < 64 << 20
