"""Inputs beside the held-out rows: bins, the measure, and how far back is looked. No server."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_hub.adapters.triton_local.counted_inputs import CountedInputs
from aiaas_hub.domain import input_drift
from aiaas_hub.domain.drifting import WINDOW, WINDOW_ROWS, Window, rows_of
from aiaas_hub.schemas.drift import InputReference
from aiaas_hub.schemas.input_bins import InputBins
from aiaas_hub.schemas.models import DType, Signature, TensorSpec

START = datetime(2030, 1, 1, tzinfo=UTC)


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(
        inputs=list(inputs), outputs=[TensorSpec(name="y", dtype="float32", shape=[1])]
    )


def table(columns: int, dtype: DType = "float32") -> Signature:
    return signature(TensorSpec(name="x", dtype=dtype, shape=[columns]))


def normal(rows: int, columns: int = 2, seed: int = 0, shift: float = 0.0) -> Any:
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    values[:, 0] += shift
    return values


def counted(expected: InputReference, **feed: Any) -> Any:
    return input_drift.bins(expected.features).count(feed)


@pytest.mark.parametrize("rows", [1, 200])
def test_each_value_has_its_place(rows: int) -> None:
    """However many rows: few and many are counted in different ways."""
    bins = InputBins([("x", [0.0, 1.0, 2.0]), ("x", [5.0])])
    row = [math.nan, -1.0, 0.0, 0.5, 1.0, 2.0, math.inf, -math.inf]
    total = np.zeros(bins.shape, np.int64)
    for value in row:
        total += bins.count({"x": np.full((rows, 2), value, np.float32)})
    assert total.tolist() == [
        [rows * n for n in (1, 2, 2, 1, 2)],
        [rows * n for n in (1, 6, 1, 0, 0)],
    ]


def test_inputs_of_their_own_and_of_any_type_are_features() -> None:
    bins = InputBins([("age", [40.0]), ("on", [0.5]), ("grid", [1.0]), ("grid", [1.0])])
    counts = bins.count(
        {
            "grid": np.array([[[0, 2]], [[3, 0]]], np.int64),
            "age": np.array([30, 50], np.float16),
            "on": np.array([[True], [False]]),
            "note": np.array([["a"], ["b"]], np.object_),
        }
    )
    assert counts[:, 1:].tolist() == [[1, 1], [1, 1], [1, 1], [1, 1]]


def test_the_reference_is_how_the_held_out_rows_are_spread() -> None:
    values = normal(1000)
    values[:20, 1] = np.nan
    found = input_drift.reference({"x": values}, table(2))
    assert (found.rows, found.reason, found.omitted) == (1000, "", [])
    first, second = found.features
    assert (first.name, second.name, first.tensor) == ("x[0]", "x[1]", "x")
    assert len(first.edges) == 9
    # A tenth in each; no row is no number.
    assert first.counts == [0, *[100] * 10]
    assert second.counts[0] == 20
    # What it was made from is as it was.
    for drift in input_drift.compare(found, counted(found, x=values)):
        assert drift.psi == pytest.approx(0, abs=1e-9)
        assert drift.change == "none"


def test_a_few_values_have_a_bin_each_and_others_are_told() -> None:
    spec = signature(
        TensorSpec(name="level", dtype="int64", shape=[]),
        TensorSpec(name="same", dtype="float32", shape=[1]),
        TensorSpec(name="mostly", dtype="float32", shape=[1]),
    )
    mostly = np.zeros((60, 1), np.float32)
    mostly[:3, 0] = [0.5, 7, 9]
    mostly[3:20, 0] = 0
    rows = {
        "level": np.arange(60) % 3,
        "same": np.full((60, 1), 7, np.float32),
        "mostly": mostly,
    }
    found = input_drift.reference(rows, spec)
    level, same, _ = found.features
    assert [feature.name for feature in found.features] == ["level", "same", "mostly"]
    assert level.counts == [0, 0, 20, 20, 20, 0]
    assert same.counts == [0, 0, 60, 0]
    # Codes that there were none of, and a constant that is another one.
    seen = {
        "level": np.full(300, 3),
        "same": np.full((300, 1), 6.9, np.float32),
        "mostly": np.zeros((300, 1), np.float32),
    }
    drifts = {d.name: d for d in input_drift.compare(found, counted(found, **seen))}
    assert (drifts["level"].change, drifts["level"].seen[-1]) == ("much", 1.0)
    assert (drifts["same"].change, drifts["same"].seen[0]) == ("much", 1.0)
    assert drifts["mostly"].change == "none"


@pytest.mark.parametrize(
    ("inputs", "shape", "says"),
    [
        ([TensorSpec(name="x", dtype="float32", shape=[None])], (9, 4), "same count of numbers"),
        ([TensorSpec(name="x", dtype="float32", shape=[3, 32, 32])], (9, 3, 32, 32), "have 3,072"),
        ([TensorSpec(name="x", dtype="float32", shape=[2])], (49, 2), "49 held-out rows"),
        ([TensorSpec(name="x", dtype="string", shape=[1], kind="text")], (99, 1), "are texts"),
        ([TensorSpec(name="x", dtype="string", shape=[1], kind="image")], (99, 1), "are images"),
    ],
)
def test_what_is_not_compared_says_why(
    inputs: list[TensorSpec], shape: tuple[int, ...], says: str
) -> None:
    values: Any = np.zeros(shape) if inputs[0].dtype != "string" else np.full(shape, "a", object)
    found = input_drift.reference({"x": values}, signature(*inputs))
    assert says in found.reason
    assert found.features == []


def test_strings_among_numbers_are_left_out_by_name() -> None:
    spec = signature(
        TensorSpec(name="city", dtype="string", shape=[1]),
        TensorSpec(name="age", dtype="float32", shape=[1]),
    )
    rows = {"city": np.full((80, 1), "Rome", object), "age": normal(80, 1)}
    found = input_drift.reference(rows, spec)
    assert ([feature.name for feature in found.features], found.omitted) == (["age"], ["city"])


def test_the_index_is_that_of_the_formula() -> None:
    """Half and half against nine and one: 0.4 · ln(0.9 / 0.5) + 0.4 · ln(0.5 / 0.1)."""
    wanted = 0.4 * math.log(0.9 / 0.5) + 0.4 * math.log(0.5 / 0.1)
    found = input_drift.psi(np.array([5e6, 5e6]), np.array([9e6, 1e6]))
    assert found == pytest.approx(wanted, rel=1e-5)
    # An empty bin is no infinity.
    assert 1 < input_drift.psi(np.array([100.0, 100.0]), np.array([200.0, 0.0])) < 10


def test_what_is_by_chance_is_not_called_a_change() -> None:
    """Of two samples of the same, and one feature in a thousand is allowed to be."""
    expected = input_drift.reference({"x": normal(200, 100)}, table(100))
    called = 0
    above = 0
    for seed in range(1, 11):
        drifts = input_drift.compare(expected, counted(expected, x=normal(200, 100, seed)))
        called += sum(drift.change != "none" for drift in drifts)
        above += sum(drift.psi >= input_drift.SOME for drift in drifts)
    # By the rule of thumb alone, hundreds of a thousand would be.
    assert called <= 5
    assert above > 200
    # Chi-squared's quantile of 0.999 for 9 degrees of freedom is 27.88 in the tables.
    assert input_drift.psi_by_chance(10, 1, math.inf) == pytest.approx(27.88, rel=0.01)


def test_a_shift_is_found_and_the_most_changed_comes_first() -> None:
    expected = input_drift.reference({"x": normal(500)}, table(2))
    for shift, change in ((0.0, "none"), (0.4, "some"), (3.0, "much")):
        seen = normal(2000, seed=1, shift=shift)
        first, second = input_drift.compare(expected, counted(expected, x=seen))
        assert {first.name, second.name} == {"x[0]", "x[1]"}
        assert second.change == "none"
        if shift:
            assert (first.name, first.change) == ("x[0]", change), first.psi
            assert sum(first.seen[5:]) > sum(first.reference[5:])


def test_rows_without_a_number_are_a_change() -> None:
    expected = input_drift.reference({"x": normal(500)}, table(2))
    seen = normal(1000, seed=1)
    seen[:300, 1] = np.nan
    first, _ = input_drift.compare(expected, counted(expected, x=seen))
    assert (first.name, first.change, first.reference_missing) == ("x[1]", "much", 0)
    assert first.seen_missing == 0.3


# How far back


def one(rows: int) -> Any:
    """Counters of one feature with two bins."""
    return np.array([[0, rows, 0]], np.int64)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_counters_that_began_anew_take_nothing_away() -> None:
    window = Window()
    window.take(one(0), at(0))
    window.take(one(300), at(1))
    window.take(one(310), at(2))
    assert rows_of(window.counts) == 310
    # The engine restarts: first without the version, then with what came since.
    window.take(one(0), at(3))
    window.take(one(40), at(4))
    assert rows_of(window.counts) == 350
    window.take(one(40), at(5))
    assert rows_of(window.counts) == 350
    assert window.since == at(0)
    # It restarts and counts between two looks.
    window.take(one(7), at(6))
    assert rows_of(window.counts) == 357


def test_a_service_that_began_anew_finds_what_was_counted() -> None:
    window = Window()
    window.take(one(400), at(0))
    assert (rows_of(window.counts), window.since) == (400, None)
    # As soon as there is enough that is known to be new, it is forgotten.
    window.take(one(400 + WINDOW_ROWS), at(1))
    assert (rows_of(window.counts), window.since) == (WINDOW_ROWS, at(0))


def test_the_last_hour_or_as_far_back_as_it_takes() -> None:
    window = Window()
    total = 0
    window.take(one(total), at(0))
    for minute in range(1, 601):
        total += 100
        window.take(one(total), at(minute))
    assert rows_of(window.counts) == pytest.approx(6000, abs=200)
    assert window.since is not None
    assert timedelta() <= at(600) - window.since - WINDOW <= timedelta(minutes=2)
    # From here on few call: the last hour alone would say nothing.
    for minute in range(601, 1500):
        total += 1
        window.take(one(total), at(minute))
        assert rows_of(window.counts) >= WINDOW_ROWS
    assert rows_of(window.counts) < WINDOW_ROWS + 200
    assert len(window.chunks) < 100


def test_counts_are_the_sum_of_the_instances_files(tmp_path: Path) -> None:
    counted = CountedInputs(tmp_path / "inputs")
    counted.clear()
    for model, version, instance, rows in (
        ("a-1", 1, "x", 2),
        ("a-1", 1, "y", 3),
        ("b-1", 12, "x", 4),
    ):
        file = counted.root / model / str(version) / f"{instance}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"[[0, {rows}]]")
    # Written half, and by somebody else.
    (file.parent / "z.new").write_text("[[")
    (file.parent / "z.json").write_text("[[")
    for _ in range(2):
        found = {key: counts.tolist() for key, counts in counted.read().items()}
        assert found == {("a-1", 1): [[0, 5]], ("b-1", 12): [[0, 4]]}
    file.write_text("[[1, 40]]")
    assert counted.read()["b-1", 12].tolist() == [[1, 40]]
    counted.remove("a-1", 1)
    counted.remove("a-1", 1)
    assert set(counted.read()) == {("b-1", 12)}
    counted.clear()
    assert counted.read() == {}
