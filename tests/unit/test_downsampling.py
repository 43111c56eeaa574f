"""A curve of few points looks as the whole one."""

from __future__ import annotations

import numpy as np
import pytest

from aiaas_hub.domain.downsampling import Curve, choose, downsample


def curve(values: np.ndarray) -> Curve:
    positions = np.arange(len(values))
    return Curve(positions, positions.astype(np.int64) * 10, positions / 2.0, values)


def test_extremes_and_ends_are_kept() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[12_345], values[67_890] = 50, -50
    kept = choose(values, 400)
    assert len(kept) <= 400
    assert {0, 12_345, 67_890, 99_999} <= set(kept.tolist())
    assert np.all(np.diff(kept) > 0)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 399, 400, 401, 1601])
@pytest.mark.parametrize("points", [4, 7, 400])
def test_few_enough_are_all_kept(length: int, points: int) -> None:
    values = np.random.default_rng(length).normal(size=length)
    kept = choose(values, points)
    assert len(kept) <= points
    if length <= points:
        assert kept.tolist() == list(range(length))
    if length:
        assert values.argmax() in kept
        assert values.argmin() in kept


def test_the_line_through_the_kept_points_has_the_same_pixels() -> None:
    """Per group of points the drawn span is the same: what M4 promises."""
    steps = np.linspace(0, 60, 40_000)
    values = np.sin(steps) * np.exp(-steps / 30) + np.random.default_rng(1).normal(0, 0.1, 40_000)
    kept = choose(values, 800)
    for group in np.array_split(np.arange(40_000), 200):
        own = kept[(kept >= group[0]) & (kept <= group[-1])]
        assert values[own].max() == values[group].max()
        assert values[own].min() == values[group].min()
        assert {group[0], group[-1]} <= set(own.tolist())


def test_what_is_no_number_hides_no_extreme() -> None:
    values = np.ones(1000)
    values[::2] = np.nan
    values[501], values[503] = 9, -np.inf
    kept = choose(values, 40)
    assert {501, 503} <= set(kept.tolist())
    gone = choose(np.full(1000, np.nan), 40)
    assert {0, 999} <= set(gone.tolist())


def test_a_rare_metric_loses_nothing_to_a_frequent_one() -> None:
    loss = curve(np.arange(10_000.0))
    rare = np.arange(0, 10_000, 1000)
    accuracy = Curve(rare, loss.steps[rare], loss.times[rare], rare / 1e4)
    points = downsample({"loss": loss, "accuracy": accuracy}, 100)
    assert [p.values["accuracy"] for p in points if "accuracy" in p.values] == (rare / 1e4).tolist()
    assert sum("loss" in point.values for point in points) <= 100
    assert [point.step for point in points] == sorted(point.step for point in points)
    assert points[-1].step == 99_990


def test_a_restart_that_goes_back_in_steps_keeps_the_order_of_reports() -> None:
    values = np.arange(2000.0)
    steps = np.concatenate([np.arange(1000), np.arange(500, 1500)])
    back = Curve(np.arange(2000), steps, np.arange(2000.0), values)
    kept = [point.values["loss"] for point in downsample({"loss": back}, 50)]
    assert kept == sorted(kept)
