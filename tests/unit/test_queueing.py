"""Who starts, who waits, and what for."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiaas_hub.domain.holdings import Contender, RunLimits
from aiaas_hub.domain.ports import Capacity
from aiaas_hub.domain.queueing import QueueRules, Verdict, beyond, decide, quota
from aiaas_hub.schemas.runs import Priority, Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOUR = Capacity(cpus=4, gpus=1)
LONG_AGO = NOW - timedelta(hours=1)


class Line:
    """Runs in the order in which they are named."""

    def __init__(self) -> None:
        self.runs: list[Contender] = []

    def add(
        self,
        name: str,
        workers: int = 1,
        *,
        started: bool = False,
        priority: Priority = Priority.NORMAL,
        since: datetime = NOW,
        cpus: float = 1,
        gpus: float = 0,
        concurrency: int = 1,
    ) -> Line:
        self.runs.append(
            Contender(
                id=f"run-{name}",
                owner=name.rstrip("0123456789"),
                order=len(self.runs),
                started=started,
                reason="",
                since=since,
                priority=priority,
                resources=Resources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus),
                concurrency=concurrency,
            )
        )
        return self

    def verdicts(
        self, capacity: Capacity = FOUR, rules: QueueRules | None = None, **kwargs: Any
    ) -> dict[str, Verdict]:
        starts = kwargs.pop("last_starts", {})
        return decide(self.runs, rules or QueueRules(), capacity, NOW, starts, **kwargs)

    def starts(self, **kwargs: Any) -> list[str]:
        found = self.verdicts(**kwargs)
        return [run.removeprefix("run-") for run, verdict in found.items() if not verdict.place]


def waits_for(line: Line, name: str, **kwargs: Any) -> str:
    place = line.verdicts(**kwargs)[f"run-{name}"].place
    assert place is not None
    return place.blocked_by


def test_everything_that_fits_starts() -> None:
    assert Line().add("ann1").add("bob1", 2).starts() == ["ann1", "bob1"]


def test_priority_orders_ones_own_runs_and_no_others() -> None:
    line = Line().add("ann1", priority=Priority.LOW).add("ann2").add("ann3", priority=Priority.HIGH)
    assert line.starts() == ["ann3", "ann2", "ann1"]
    # Bob came first, and a high priority of Ann's changes nothing about that.
    crowd = Line().add("bob1", 4).add("ann1", 4, priority=Priority.HIGH)
    assert crowd.starts() == ["bob1"]


def test_who_has_fewer_workers_goes_first() -> None:
    line = Line().add("ann1", 3, started=True).add("ann2").add("ann3").add("bob1")
    assert line.starts() == ["bob1"]
    places = [verdict.place.position for verdict in line.verdicts().values() if verdict.place]
    assert places == [1, 2]


def test_a_hundred_runs_of_one_are_no_obstacle_to_anothers_first() -> None:
    line = Line()
    for number in range(100):
        line.add(f"ann{number}", since=LONG_AGO)
    line.add("bob1")
    line.runs[0] = replace(line.runs[0], started=True)
    # Ann got something a moment ago, so the age of her line gives her nothing.
    assert line.starts(last_starts={"ann": NOW})[0] == "bob1"


def test_the_sentence_says_what_and_who_and_names_no_other_users_run() -> None:
    line = Line().add("bob1", 3, started=True).add("ann1", started=True).add("ann2", 2)
    assert waits_for(line, "ann2") == (
        "waits for 2 CPUs: your run-ann1 holds 1 and another user's run holds 3 of 4"
    )
    many = Line().add("bob1", 2, started=True).add("cid1", 2, started=True).add("ann1")
    assert waits_for(many, "ann1") == "waits for 1 CPU: 2 runs of others hold 4 of 4"
    gpus = Line().add("bob1", started=True, gpus=1).add("ann1", gpus=1)
    assert waits_for(gpus, "ann1") == "waits for 1 GPU: another user's run holds 1 of 1"


def test_what_would_start_instead() -> None:
    line = Line().add("bob1", 2, started=True).add("ann1", 4)
    place = line.verdicts()["run-ann1"].place
    assert place is not None
    assert place.remedy == "with --workers 2 it would start now"
    for changes, words in (
        ({"gpus": 2}, "with --gpus-per-worker 0 it would start now"),
        ({"cpus": 3}, "with --cpus-per-worker 1 it would start now"),
        ({"concurrency": 3}, "with --concurrency 2 it would start now"),
        ({"workers": 2, "cpus": 4}, "with --cpus-per-worker 1 it would start now"),
    ):
        other = Line().add("bob1", 2, started=True).add("ann1", **changes)  # type: ignore[arg-type]
        place = other.verdicts()["run-ann1"].place
        assert place is not None
        assert place.remedy == words
    full = Line().add("bob1", 4, started=True).add("ann1", 2)
    place = full.verdicts()["run-ann1"].place
    assert place is not None
    assert place.remedy == ""


def test_a_small_run_starts_in_the_gap_and_it_is_said() -> None:
    line = Line().add("bob1", 2, started=True).add("ann1", 4).add("cid1")
    verdicts = line.verdicts()
    assert verdicts["run-cid1"] == Verdict(in_gap=True)


def test_a_big_run_that_has_waited_is_preferred() -> None:
    line = Line().add("bob1", 2, started=True).add("ann1", 4, since=LONG_AGO).add("cid1")
    assert line.starts() == []
    assert "2 kept for a run that has waited longer" in waits_for(line, "cid1")
    # What it does not need is not kept.
    roomy = Capacity(cpus=8, gpus=1)
    gpu = Line().add("bob1", gpus=1, started=True).add("ann1", gpus=1, since=LONG_AGO).add("cid1")
    assert gpu.starts(capacity=roomy) == ["cid1"]


def test_a_run_that_can_never_fit_holds_up_nobody() -> None:
    line = Line().add("ann1", 5, since=LONG_AGO).add("bob1", 4)
    assert line.starts() == ["bob1"]
    assert waits_for(line, "ann1") == "needs 5 CPUs, and the platform has 4 in all"


def test_quotas() -> None:
    rules = QueueRules(RunLimits(runs=2, workers=3, gpus=0), RunLimits(runs=3, workers=5))
    room = Capacity(cpus=100, gpus=9)
    two = Line().add("ann1", started=True).add("ann2", started=True).add("ann3").add("bob1")
    assert two.starts(rules=rules, capacity=room) == ["bob1"]
    assert waits_for(two, "ann3", rules=rules) == "waits for one of your 2 runs to end"
    wide = Line().add("ann1", 2, started=True).add("ann2", 2)
    assert waits_for(wide, "ann2", rules=rules, capacity=room) == (
        "waits for 1 worker: your run-ann1 holds 2 of 3"
    )
    gpu = Line().add("ann1", gpus=1)
    assert "you may have 0" in waits_for(gpu, "ann1", rules=rules, capacity=room)
    all_ = Line().add("ann1", 3, started=True).add("bob1", 2, started=True).add("cid1")
    assert waits_for(all_, "cid1", rules=rules, capacity=room) == (
        "waits for 1 worker: 2 runs of others hold 5 of 5"
    )
    full = Line().add("ann1", started=True).add("bob1", started=True).add("cid1", started=True)
    full.add("dan1")
    assert waits_for(full, "dan1", rules=rules) == "waits for one of 3 runs to end"
    used = quota(wide.runs, "ann", rules.per_user)
    assert (used.runs.used, used.workers.used, used.workers.limit) == (1, 2, 3)
    assert quota(wide.runs, "ann", RunLimits()).gpus.limit is None
    assert "at most 3" in beyond(Resources(workers=2), 2, rules.per_user)
    assert beyond(Resources(workers=3), 1, rules.per_user) == ""


def test_ones_own_small_runs_do_not_starve_ones_big_one() -> None:
    rules = QueueRules(per_user=RunLimits(workers=3))
    room = Capacity(cpus=100, gpus=0)
    young = Line().add("ann1", 2, started=True).add("ann2", 3).add("ann3")
    assert young.starts(rules=rules, capacity=room) == ["ann3"]
    old = Line().add("ann1", 2, started=True).add("ann2", 3, since=LONG_AGO).add("ann3")
    assert old.starts(rules=rules, capacity=room) == []
    # What is kept within Ann's quota is nothing to Bob.
    assert old.add("bob1").starts(rules=rules, capacity=room) == ["bob1"]


def test_while_the_engine_is_down_all_wait_for_it() -> None:
    line = Line().add("ann1").add("bob1")
    found = line.verdicts(engine_reason="Ray is starting")
    places = [verdict.place for verdict in found.values()]
    assert [place and (place.position, place.blocked_by) for place in places] == [
        (1, "Ray is starting"),
        (2, "Ray is starting"),
    ]


def test_a_sweep_holds_what_its_trials_take() -> None:
    line = Line().add("ann1", 2, concurrency=2, started=True).add("bob1")
    assert waits_for(line, "bob1") == "waits for 1 CPU: another user's run holds 4 of 4"


def some_line(rng: random.Random) -> Line:
    line = Line()
    for number in range(rng.randrange(1, 25)):
        owner = rng.choice(["ann", "bob", "cid"])
        line.add(
            f"{owner}{number}",
            rng.randrange(1, 6),
            started=rng.random() < 0.3,
            priority=rng.choice(list(Priority)),
            since=NOW - timedelta(seconds=rng.randrange(600)),
            cpus=rng.choice([0.1, 0.5, 1, 2]),
            gpus=rng.choice([0, 0, 0, 0.5, 1]),
        )
    return line


@pytest.mark.parametrize("seed", range(300))
def test_whatever_the_line_nothing_is_given_twice_or_left_lying(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a repeatable case, not a secret
    line = some_line(rng)
    capacity = Capacity(cpus=rng.randrange(1, 20), gpus=rng.randrange(3))
    rules = QueueRules(
        RunLimits(runs=rng.randrange(1, 6), workers=rng.randrange(1, 12)),
        RunLimits(runs=rng.randrange(1, 10)),
    )
    verdicts = line.verdicts(capacity, rules)
    assert set(verdicts) == {run.id for run in line.runs if not run.started}
    started = [run for run in line.runs if run.started]
    added = [run for run in line.runs if run.id in verdicts and verdicts[run.id].place is None]

    def held(runs: list[Contender]) -> tuple[float, float]:
        return (
            sum(run.resources.workers * run.resources.cpus_per_worker for run in runs),
            sum(run.resources.workers * run.resources.gpus_per_worker for run in runs),
        )

    if added:
        cpus, gpus = held(started + added)
        needs_gpu = any(run.resources.gpus_per_worker for run in added)
        assert cpus <= capacity.cpus + 1e-3
        assert gpus <= capacity.gpus + 1e-3 or not needs_gpu
        assert len(started + added) <= rules.in_all.runs
        for owner in {run.owner for run in added}:
            own = [run for run in started + added if run.owner == owner]
            assert len(own) <= rules.per_user.runs
            assert sum(run.resources.workers for run in own) <= rules.per_user.workers
    places = [verdict.place for verdict in verdicts.values() if verdict.place]
    assert [place.position for place in places] == list(range(1, len(places) + 1))
    for run in line.runs:
        place = verdicts[run.id].place if run.id in verdicts else None
        if place is not None:
            assert place.blocked_by
            others = {other.id for other in line.runs if other.owner != run.owner}
            assert not any(other in place.blocked_by for other in others)
    # Judged once more with the added ones started: nothing is left that would fit.
    after = replace_started(line, {run.id for run in added})
    if not any("kept" in place.blocked_by for place in places):
        assert after.starts(capacity=capacity, rules=rules) == []


def replace_started(line: Line, ids: set[str]) -> Line:
    after = Line()
    after.runs = [replace(run, started=True) if run.id in ids else run for run in line.runs]
    return after


def test_equal_demand_is_shared_equally() -> None:
    line = Line()
    for number in range(40):
        line.add(f"ann{number}")
    for number in range(40):
        line.add(f"bob{number}")
    starts = line.starts(capacity=Capacity(cpus=10, gpus=0))
    assert Counter(name[:3] for name in starts) == {"ann": 5, "bob": 5}


@pytest.mark.parametrize("own", [True, False])
def test_nobody_starves(own: bool) -> None:
    """A run that takes everything, against small ones that come for ever and two of which always
    run: those of another user, or of its own."""
    line = Line()
    small = "big" if own else "ann"
    # Its own of a higher priority may well starve it: that is what was asked for.
    priority = Priority.NORMAL if own else Priority.HIGH
    now, number = NOW, 1
    ends: dict[str, datetime] = {}
    starts: dict[str, datetime] = {}
    for tick in range(200):
        now += timedelta(seconds=10)
        if tick == 5:
            number += 1
            line.add("big0", 4, since=now)
            line.runs[-1] = replace(line.runs[-1], order=number)
        line.runs = [run for run in line.runs if ends.get(run.id, now) >= now]
        for _ in range(2):
            number += 1
            line.add(f"{small}{number}", priority=priority, since=now)
            line.runs[-1] = replace(line.runs[-1], order=number)
        recent = {who: at for who, at in starts.items() if now - at < QueueRules().patience}
        verdicts = decide(line.runs, QueueRules(RunLimits(workers=4)), FOUR, now, recent)
        for position, run in enumerate(line.runs):
            if run.id in verdicts and verdicts[run.id].place is None:
                line.runs[position] = replace(run, started=True)
                ends[run.id] = now + timedelta(seconds=15)
                starts[run.owner] = now
    assert "run-big0" in ends
