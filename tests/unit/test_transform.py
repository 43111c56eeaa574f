"""Batches, splits and the assembly of a transform's results; no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from IPython.core.error import UsageError
from pydantic import ValidationError

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.transforms import TransformSpec
from aiaas_magics import snapshot
from aiaas_magics.commands.transform import shares
from aiaas_magics.runtime.assembling import Assembly
from aiaas_magics.runtime.batches import as_batch, as_table, batches, pieces
from aiaas_magics.runtime.splitting import assign
from aiaas_magics.runtime.transform_worker import transformed

SPEC = TransformSpec(target="out")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """25 rows in row groups of 10."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": list(range(25))}), path, row_group_size=10)
    return path


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_batches_are_the_same_however_many_workers_there_are(file: Path, workers: int) -> None:
    read = [
        batch.column("x").to_pylist()
        for piece in pieces(file, workers, 4)
        for batch in batches(file, piece, 4)
    ]
    assert [len(batch) for batch in read] == [4, 4, 2, 4, 4, 2, 4, 1]
    assert [x for batch in read for x in batch] == list(range(25))


def test_a_large_row_group_is_work_for_several_workers(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    pq.write_table(pa.table({"x": list(range(100))}), path)
    found = pieces(path, 2, 5)
    assert len(found) >= 6
    assert [(piece.first % 5, piece.group) for piece in found] == [(0, 0)] * len(found)


def test_of_an_empty_dataset_the_code_sees_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"x": pa.array([], pa.int64())}), path)
    (piece,) = pieces(path, 4, 5)
    (batch,) = batches(path, piece, 5)
    assert (batch.column_names, batch.num_rows) == (["x"], 0)


def test_a_batch_is_what_was_asked_for() -> None:
    table = pa.table({"x": [1, 2], "v": [[1.0, 2.0], [3.0, 4.0]], "s": ["a", None]})
    assert isinstance(as_batch(table, "pandas"), pd.DataFrame)
    assert as_batch(table, "pyarrow") is table
    arrays = as_batch(table, "numpy")
    assert arrays["v"].shape == (2, 2)
    arrays["x"] += 1
    assert arrays["x"].tolist() == [2, 3]
    assert table.column("x").to_pylist() == [1, 2], "the batch is the code's own"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "transform returned nothing"),
        ((row for row in []), "transform has a yield"),
        ("text", "A str is not a table"),
        (pd.Series([1]), "A Series is not a table"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, "different numbers of rows"),
        (pd.DataFrame({"x": [object()]}), "Column 'x' holds values"),
    ],
)
def test_what_is_no_table_is_refused(result: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refusal:
        as_table(result)
    assert refusal.value.remedy


def test_dicts_of_lists_are_tables() -> None:
    assert as_table({"x": [1, 2]}).to_pydict() == {"x": [1, 2]}


def assembled(directory: Path, spec: TransformSpec, *results: Any) -> list[pa.Table]:
    assembly = Assembly(directory, spec)
    for result in results:
        table = pa.table({"unused": [0]})
        assembly.add(transformed(lambda batch, r=result: r, table, spec))
    return [pq.read_table(file) for file in assembly.write()]


def test_types_are_those_of_all_results_together(tmp_path: Path) -> None:
    (table,) = assembled(
        tmp_path,
        SPEC,
        pd.DataFrame({"x": [1], "y": [None], "z": [None]}),
        pd.DataFrame(),
        pd.DataFrame({"z": [None], "y": ["b"], "x": [0.5]}),
    )
    assert table.to_pydict() == {"x": [1.0, 0.5], "y": [None, "b"], "z": [None, None]}
    assert table.schema.field("x").type == pa.float64()
    assert table.schema.field("z").type == pa.string()
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"], "nothing is left aside"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"x": [1]}, {"y": [1]}, "different columns for different batches"),
        ({"x": [1]}, {"x": ["a"]}, "does not go together"),
        ({}, {}, "no column for any batch"),
    ],
)
def test_results_that_do_not_go_together_are_refused(
    tmp_path: Path, first: Any, second: Any, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said) as refusal:
        assembled(tmp_path, SPEC, pd.DataFrame(first), pd.DataFrame(second))
    assert refusal.value.remedy


def test_the_same_results_make_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        assembly = Assembly(tmp_path, TransformSpec(target=name))
        for _ in range(2):
            frame = pd.DataFrame({"x": [1, 2]})
            assembly.add(transformed(lambda b, f=frame: f, pa.table({"u": [0]}), SPEC))
        (file,) = assembly.write()
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]


def test_a_split_has_its_shares_and_every_row_once(tmp_path: Path) -> None:
    split = {"train": 0.8, "validation": 0.1, "test": 0.1}
    spec = TransformSpec(target="d", split=split, seed=7, stratify="label")
    frames = [
        pd.DataFrame({"x": range(n, n + 50), "label": ["a"] * 40 + ["b"] * 10})
        for n in range(0, 200, 50)
    ]
    train, validation, test = assembled(tmp_path, spec, *frames)
    assert [t.num_rows for t in (train, validation, test)] == [160, 20, 20]
    for table, expected in ((train, 32), (validation, 4), (test, 4)):
        assert table.column("label").to_pylist().count("b") == expected
    rows = [x for t in (train, validation, test) for x in t.column("x").to_pylist()]
    assert sorted(rows) == list(range(200))
    assert train.column("x").to_pylist() != list(range(160))


def test_a_split_is_by_its_seed_alone() -> None:
    first = assign(1000, [0.5, 0.5], 1)
    assert (first == assign(1000, [0.5, 0.5], 1)).all()
    assert (first != assign(1000, [0.5, 0.5], 2)).any()


def test_parts_of_many_small_classes_have_their_shares() -> None:
    classes = np.repeat(np.arange(1000, dtype=np.int32), 3)
    parts = assign(3000, [0.8, 0.1, 0.1], 0, classes)
    counts = np.bincount(parts, minlength=3)
    # Rounded to the nearest, all of each three would be in the first part.
    assert 200 < counts[1] < 400
    assert 200 < counts[2] < 400


@pytest.mark.parametrize("rows", [0, 1, 2, 10, 11])
def test_few_rows_are_divided_to_within_one(rows: int) -> None:
    for seed in range(20):
        counts = np.bincount(assign(rows, [0.7, 0.2, 0.1], seed), minlength=3)
        assert counts.sum() == rows
        assert all(abs(c - s * rows) <= 1 for c, s in zip(counts, [0.7, 0.2, 0.1], strict=True))


def test_stratifying_by_what_are_no_classes_is_refused(tmp_path: Path) -> None:
    spec = TransformSpec(target="d", split={"a": 0.5, "b": 0.5}, stratify="x")
    with pytest.raises(InvalidInput, match="no column 'x'"):
        assembled(tmp_path, spec, pd.DataFrame({"y": [1]}))
    with pytest.raises(InvalidInput, match="holds lists"):
        assembled(tmp_path, spec, pd.DataFrame({"x": [[1]]}))
    with pytest.raises(InvalidInput, match="different values"):
        assembled(tmp_path, spec, pd.DataFrame({"x": range(10_001)}))


@pytest.mark.parametrize(
    "fields",
    [
        {"split": {"train": 0.8}},
        {"split": {"train": 1.2, "test": -0.2}},
        {"split": {"a b": 1.0}},
        {"stratify": "label"},
        {"batch_size": 0},
        {"seed": -1},
        {"target": "x" * 60, "split": {"train": 0.5, "test": 0.5}},
    ],
)
def test_what_a_transform_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TransformSpec(**{"target": "d", **fields})


def test_shares_are_read() -> None:
    assert shares("train=0.8, test=20%") == {"train": 0.8, "test": 0.2}
    assert shares(None) == {}
    for wrong in ("train", "train=x", "=1", "a=0.5,a=0.5"):
        with pytest.raises(UsageError, match=r"Write --split|Name each once"):
            shares(wrong)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("def train(ctx): pass", "does not define transform"),
        ("async def transform(batch): return batch", "is an async function"),
        ("def transform(batch): yield batch", "has a yield"),
        ("def transform(batch, more): return batch", "one argument, the batch"),
    ],
)
def test_a_cell_that_transforms_nothing_is_refused(cell: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        snapshot.of_cell(cell, "", "transform")
