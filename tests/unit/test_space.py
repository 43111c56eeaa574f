"""A sweep as it is typed, and the parameters that its trials get."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import Distribution, SweepSpec
from aiaas_magics import space
from aiaas_magics.runtime.search import best, search_of


def typed(**values: str) -> tuple[dict[str, Any], dict[str, Distribution]]:
    return space.split(values, typed=True)


def test_what_is_drawn_and_what_stays() -> None:
    fixed, drawn = typed(
        lr="log:1e-4:1e-1",
        dropout="uniform:0:0.5",
        layers="int:1:4",
        width="choice:32, 64",
        optimizer="choice:adam,sgd",
        bias="choice:true,false",
        epochs="5",
        device="cuda:0",
        source="s3://bucket/log:1",
        quoted='"log:x"',
    )
    assert drawn == {
        "lr": Distribution(kind="log", low=1e-4, high=1e-1),
        "dropout": Distribution(kind="uniform", low=0, high=0.5),
        "layers": Distribution(kind="int", low=1, high=4),
        "width": Distribution(kind="choice", values=[32, 64]),
        "optimizer": Distribution(kind="choice", values=["adam", "sgd"]),
        "bias": Distribution(kind="choice", values=[True, False]),
    }
    assert fixed == {
        "epochs": 5,
        "device": "cuda:0",
        "source": "s3://bucket/log:1",
        "quoted": "log:x",
    }
    assert [space.shown(drawn[name]) for name in ("lr", "layers", "width")] == [
        "log:0.0001:0.1",
        "int:1:4",
        "choice:32,64",
    ]


def test_from_python_a_list_is_a_choice() -> None:
    fixed, drawn = space.split(
        {"width": [32, 64], "depth": range(1, 3), "lr": "log:1:10", "n": "5"}
    )
    assert drawn["width"].values == [32, 64]
    assert drawn["depth"].values == [1, 2]
    assert drawn["lr"].kind == "log"
    assert fixed == {"n": "5"}


@pytest.mark.parametrize(
    ("value", "message", "remedy"),
    [
        ("loguniform:1:2", "'loguniform' is no distribution", "Write x=log:LOW:HIGH"),
        ("unifrom:1:2", "'unifrom' is no distribution", "Write x=uniform:LOW:HIGH"),
        ("normal:0:1", "'normal' is no distribution", "Write x=uniform:LOW:HIGH"),
        ("log:1", "does not name two numbers", "Write x=log:LOW:HIGH."),
        ("uniform:a:b", "does not name two numbers", "Write x=uniform:LOW:HIGH."),
        ("uniform:0:inf", "does not name two numbers", "Write x=uniform:LOW:HIGH."),
        ("uniform:2:1", "the first number has to be the smaller one", "Write x=uniform:1:2."),
        ("log:1:0", "the first number has to be the smaller one", "Write x=uniform:0:1."),
        ("int:1.5:0.5", "the first number has to be the smaller one", "Write x=uniform:0.5:1.5."),
        ("int:4:1", "the first number has to be the smaller one", "Write x=int:1:4."),
        ("int:3:3", "is empty", "Write x=3 for a value that stays."),
        ("log:0:1", "has no logarithm", "Begin above 0"),
        ("int:0.5:2", "not about whole numbers", "Write x=uniform:0.5:2."),
        ("choice:", "nothing to choose from", "Write x=choice:32,64."),
        ("choice:1e999", "not a finite number", "Give a finite number"),
    ],
)
def test_what_cannot_be_drawn_is_refused(value: str, message: str, remedy: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        typed(x=value)
    assert message in refusal.value.message
    assert remedy in refusal.value.remedy


CHOICE = Distribution(kind="choice", values=["a", "b"])
WHOLE = Distribution(kind="int", low=1, high=3)
LOG = Distribution(kind="log", low=1e-4, high=1e-1)


def test_a_sweep_fills_in_what_it_can_know() -> None:
    grid = space.spec({"a": CHOICE, "n": WHOLE}, metric="val_loss", search="grid", concurrency=9)
    assert (grid.trials, grid.mode, grid.concurrency) == (6, "min", 6)
    assert space.spec({"lr": LOG}, metric="accuracy", trials=3).mode == "max"
    assert space.spec({"lr": LOG}, metric="f1", trials=3, mode="min").mode == "min"


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({"space": {}}, "varies nothing", "--param lr=log:1e-4:1e-1"),
        ({"trials": None}, "does not say how many trials", "--trials 10"),
        ({"trials": 1001}, "1,001 trials", "Give 1 to 1,000."),
        ({"search": "grid", "trials": None}, "cannot try all of lr=log:0.0001:0.1", "choice:A,B,C"),
        (
            {"space": {"a": CHOICE}, "search": "grid", "trials": 5},
            "The grid has 2 points, and --trials says 5.",
            "Leave --trials out",
        ),
        (
            {"space": {"n": Distribution(kind="int", low=1, high=2000)}, "search": "grid"},
            "2,000 points",
            "random",
        ),
        ({"search": "bayes"}, "'bayes' is no search", "random, grid, bayesian"),
        ({"scheduler": "pbt"}, "'pbt' is no scheduler", "none, asha"),
        ({"metric": "quality"}, "Whether more or less quality is better", "--mode max"),
        ({"concurrency": 0}, "concurrency", ""),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused(
    options: dict[str, Any], message: str, remedy: str
) -> None:
    asked: dict[str, Any] = {"space": {"lr": LOG}, "metric": "loss", "trials": 5, **options}
    with pytest.raises(InvalidInput) as refusal:
        space.spec(asked.pop("space"), **asked)
    assert message in refusal.value.message
    assert remedy in refusal.value.remedy


def sweep(**changes: Any) -> SweepSpec:
    drawn = {
        "lr": LOG,
        "dropout": Distribution(kind="uniform", low=0, high=0.5),
        "n": WHOLE,
        "a": CHOICE,
    }
    return SweepSpec.model_validate({"space": drawn, "trials": 50, "metric": "loss", **changes})


def test_a_grid_is_every_combination_once() -> None:
    search = search_of(sweep(space={"a": CHOICE, "n": WHOLE}, search="grid"), "run-1")
    assert [tuple(search.params(number).values()) for number in range(6)] == [
        ("a", 1),
        ("a", 2),
        ("a", 3),
        ("b", 1),
        ("b", 2),
        ("b", 3),
    ]


def test_chance_depends_on_the_sweep_and_the_number_alone() -> None:
    search, again = search_of(sweep(), "run-1"), search_of(sweep(), "run-1")
    drawn = [search.params(number) for number in range(200)]
    assert [again.params(number) for number in reversed(range(200))] == drawn[::-1]
    assert search_of(sweep(), "run-2").params(0) != drawn[0]
    assert all(1e-4 <= point["lr"] <= 1e-1 for point in drawn)
    assert all(0 <= point["dropout"] <= 0.5 for point in drawn)
    assert Counter(point["n"] for point in drawn).keys() == {1, 2, 3}
    assert Counter(point["a"] for point in drawn).keys() == {"a", "b"}
    # Each of the three orders of magnitude about as often.
    magnitudes = Counter(int(f"{point['lr']:e}"[-2:]) for point in drawn)
    assert min(magnitudes[exponent] for exponent in (2, 3, 4)) > 40


def test_a_bayesian_search_learns_and_goes_on_from_what_was_known() -> None:
    spec = sweep(space={"x": Distribution(kind="uniform", low=-10, high=10)}, search="bayesian")
    search = search_of(spec, "run-1")
    for number in range(12):
        x = float(search.params(number)["x"])
        search.finished(number, (x - 3) ** 2)
    resumed = search_of(spec, "run-1")
    # A trial that was begun has its parameters still, one that failed teaches nothing.
    for number in range(30):
        x = -10 + number * 20 / 29
        resumed.known(number, {"x": x})
        resumed.finished(number, None if number == 7 else (x - 3) ** 2)
    resumed.known(30, {"x": -5.0})
    assert resumed.params(30) == {"x": -5.0}
    tried = []
    for number in range(31, 41):
        tried.append(float(resumed.params(number)["x"]))
        resumed.finished(number, (tried[-1] - 3) ** 2)
    assert sum(abs(x - 3) < 4 for x in tried) > 7
    resumed.finished(30, float("nan"))


def test_the_best_trial_is_one_with_a_number() -> None:
    values = {0: 0.5, 1: float("nan"), 2: 0.9, 3: float("inf")}
    assert best(values, "max") == 2
    assert best(values, "min") == 0
    assert best({0: float("nan")}, "max") is None
