"""When waiting runs will start, as far as it can be told."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from aiaas_hub.domain.forecasting import Past, forecast, seconds_left
from aiaas_hub.domain.holdings import Contender, RunLimits
from aiaas_hub.domain.ports import Capacity
from aiaas_hub.domain.queueing import QueueRules
from aiaas_hub.schemas.runs import Priority, Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOUR = Capacity(cpus=4, gpus=0)
HOUR = [Past("bob", "cnn", 3600)]


def run(
    name: str,
    workers: int = 1,
    *,
    owner: str = "ann",
    began: float | None = None,
    limit: float | None = None,
    order: int = 0,
) -> Contender:
    """One that has trained for `began` seconds, or waits."""
    return Contender(
        id=f"run-{name}",
        owner=owner,
        order=order,
        started=began is not None,
        reason="",
        since=NOW,
        priority=Priority.NORMAL,
        resources=Resources(workers=workers),
        name=name,
        begun=None if began is None else NOW - timedelta(seconds=began),
        time_limit=limit,
    )


def until(
    wanted: str, *runs: Contender, past: list[Past], rules: QueueRules | None = None
) -> object:
    found = forecast([f"run-{wanted}"], runs, rules or QueueRules(), FOUR, NOW, {}, past)
    return found.get(f"run-{wanted}")


@pytest.mark.parametrize(
    ("began", "limit", "past", "left"),
    [
        (600, None, [], None),
        (600, 1000, [], 400),
        (600, None, HOUR, 3000),
        (600, 1000, HOUR, 400),
        # The owner's own of this name tell more than the owner's others, and those than all.
        (0, None, [*HOUR, Past("ann", "other", 60)], 60),
        (0, None, [*HOUR, Past("ann", "other", 60), Past("ann", "cnn", 30)], 30),
        # It has taken longer already than those did.
        (45, None, [*HOUR, Past("ann", "other", 60), Past("ann", "cnn", 30)], 15),
        (7200, None, HOUR, None),
        (7200, 7100, HOUR, 0),
        (0, None, [Past("ann", "cnn", of) for of in (10, 20, 900)], 20),
    ],
)
def test_how_long_a_run_will_take(
    began: float, limit: float | None, past: list[Past], left: float | None
) -> None:
    assert seconds_left(run("cnn", began=began, limit=limit), NOW, past) == left


def test_a_turn_comes_when_enough_runs_are_over() -> None:
    runs = [
        run("short", 2, began=60, limit=360),
        run("long", 2, owner="bob", began=0, limit=7200),
        run("mine", 3, order=1),
    ]
    assert until("mine", *runs, past=[]) == 7200
    runs[2] = run("mine", 2, order=1)
    assert until("mine", *runs, past=[]) == 300


def test_those_in_front_take_their_time_too() -> None:
    runs = [
        run("held", 4, began=0, limit=600),
        run("front", 4, limit=1200, order=1),
        run("mine", 4, order=2),
    ]
    assert until("front", *runs, past=[]) == 600
    assert until("mine", *runs, past=[]) == 1800


def test_a_limit_of_ones_own_runs_is_waited_for() -> None:
    rules = QueueRules(per_user=RunLimits(runs=1))
    runs = [run("first", began=100, limit=400), run("mine", order=1)]
    assert until("mine", *runs, past=[], rules=rules) == 300


def test_what_nobody_knows_is_not_told() -> None:
    held = run("held", 4, began=0)
    assert until("mine", held, run("mine", order=1), past=[]) is None
    # One of two that hold is enough to know of.
    runs = [run("held", 2, began=0), run("other", 2, began=0, limit=120), run("mine", 2, order=1)]
    assert until("mine", *runs, past=[]) == 120
    assert until("mine", *runs[:2], run("mine", 3, order=1), past=[]) is None
    # It would never start.
    assert until("mine", *runs[:2], run("mine", 5, order=1), past=HOUR) is None


def test_estimates_are_as_rough_as_they_are() -> None:
    def told(limit: float) -> object:
        return until("mine", run("held", 4, began=0, limit=limit), run("mine", order=1), past=[])

    assert [told(limit) for limit in (1, 41, 61, 3599, 3601)] == [10, 50, 120, 3600, 4200]


def test_of_a_very_long_line_nothing_is_told() -> None:
    line = [run(f"r{number}", 2, order=number, owner=f"u{number % 20}") for number in range(100)]
    began = time.process_time()
    forecast(["run-r99"], line, QueueRules(), FOUR, NOW, {}, HOUR)
    assert time.process_time() - began < 2
    assert forecast(["run-r9"], line * 2, QueueRules(), FOUR, NOW, {}, HOUR) == {}
