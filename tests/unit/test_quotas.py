"""Quotas and sums of usage, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from aiaas_hub.adapters.yaml_file import YamlFile
from aiaas_hub.domain.holdings import UNLIMITED, RunLimits
from aiaas_hub.domain.quotas import Budgets, Limits, Period, Quotas, period_around
from aiaas_hub.domain.usage import NO_GROUP, Span, report, total
from aiaas_hub.schemas.errors import Forbidden, InvalidInput
from aiaas_hub.schemas.runs import Resources
from aiaas_hub.schemas.usage import GroupBy, UsageKind
from aiaas_hub.spawner.pricing import rate
from aiaas_hub.spawner.profiles import Profile

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SPAN = Span(
    kind=UsageKind.RUN,
    subject="run-a",
    owner="ada",
    profile="gpu",
    workers=2,
    cpus=4,
    gpus=2,
    price_per_hour=3.0,
    started_at=NOON - timedelta(hours=2),
    ended_at=NOON - timedelta(hours=1),
)
GPU = Resources(workers=1, gpus_per_worker=1)


class Used:
    """Usage and members as given."""

    def __init__(self, *spans: Span, groups: Mapping[str, Sequence[str]] | None = None) -> None:
        self.all = spans
        self.members = {user: frozenset(of) for user, of in (groups or {}).items()}
        self.bytes = 0

    def spans(self, owners: Sequence[str] | None, since: datetime) -> Sequence[Span]:
        return [
            span
            for span in self.all
            if (owners is None or span.owner in owners)
            and (span.ended_at is None or span.ended_at > since)
        ]

    def storage(self, owner: str) -> int:
        return self.bytes

    def groups(self) -> Mapping[str, frozenset[str]]:
        return self.members


def budgets(used: Used, endpoints: int = 0, **file: object) -> Budgets:
    quotas = Quotas.model_validate(file)
    return Budgets(
        lambda: quotas,
        lambda: quotas,
        used,
        used,
        lambda owner: endpoints,
        RunLimits(4, UNLIMITED),
        lambda: NOON,
    )


def test_hours_are_what_falls_into_the_period() -> None:
    since = NOON - timedelta(hours=1.5)
    used = total([SPAN], since, NOON)
    assert (used.hours, used.worker_hours, used.cpu_hours, used.gpu_hours, used.cost) == (
        0.5, 1.0, 2.0, 1.0, 1.5,
    )  # fmt: skip
    going_on = replace(SPAN, ended_at=None)
    assert total([going_on], since, NOON).gpu_hours == 3.0
    assert total([SPAN], NOON, NOON + timedelta(hours=1)).hours == 0


def test_a_report_sums_by_what_is_asked_for() -> None:
    server = replace(
        SPAN, kind=UsageKind.SERVER, subject="bob", owner="bob", profile="small", workers=0,
        cpus=1, gpus=0, price_per_hour=0.5, started_at=NOON - timedelta(days=1, hours=12),
    )  # fmt: skip
    groups = {"ada": frozenset({"a", "b"})}
    since = NOON - timedelta(days=3)

    def keys(by: GroupBy) -> dict[str, float]:
        made = report([SPAN, server], since, NOON, by, None, groups)
        return {line.key: round(line.cost, 6) for line in made.lines}

    assert keys(GroupBy.USER) == {"bob": 17.5, "ada": 3.0}
    assert keys(GroupBy.GROUP) == {NO_GROUP: 17.5, "a": 3.0, "b": 3.0}
    assert keys(GroupBy.PROFILE) == {"small": 17.5, "gpu": 3.0}
    assert keys(GroupBy.RUN) == {"run-a": 3.0}
    assert keys(GroupBy.SERVER) == {"bob": 17.5}
    assert keys(GroupBy.ENDPOINT) == {}
    assert keys(GroupBy.DAY) == {"2026-11-24": 12.0, "2026-11-25": 8.5}
    assert sum(keys(GroupBy.DAY).values()) == sum(keys(GroupBy.USER).values())


@pytest.mark.parametrize(
    ("period", "begin", "end"),
    [
        (Period.DAY, (2026, 11, 25), (2026, 11, 26)),
        (Period.WEEK, (2026, 11, 23), (2026, 11, 30)),
        (Period.MONTH, (2026, 11, 1), (2026, 12, 1)),
    ],
)
def test_periods(period: Period, begin: tuple[int, int, int], end: tuple[int, int, int]) -> None:
    assert period_around(period, NOON) == (
        datetime(*begin, tzinfo=UTC),
        datetime(*end, tzinfo=UTC),
    )
    december = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert period_around(Period.MONTH, december)[1] == datetime(2027, 1, 1, tzinfo=UTC)


def test_whose_limit_counts() -> None:
    quotas = Quotas.model_validate(
        {
            "default": {"gpu_hours": 5, "endpoints": 3},
            "groups": {"s": {"gpu_hours": 10, "runs": 1}, "t": {"gpu_hours": 20}},
            "users": {"ada": {"gpu_hours": 1}},
        }
    )
    assert quotas.of("eve", frozenset()) == Limits(gpu_hours=5, endpoints=3)
    assert quotas.of("eve", frozenset({"s", "t"})) == Limits(gpu_hours=20, endpoints=3, runs=1)
    assert quotas.of("ada", frozenset({"t"})) == Limits(gpu_hours=1, endpoints=3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"default": {"gpu_hour": 1}},
        {"default": {"gpu_hours": -1}},
        {"default": {"gpu_hours": float("nan")}},
        {"period": "year"},
        {"shared": {"s": {"endpoints": 1}}},
        {"user": {}},
    ],
)
def test_a_wrong_file_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Quotas.model_validate(wrong)


def test_used_up_hours_refuse_runs_that_take_them() -> None:
    full = budgets(Used(SPAN), default={"gpu_hours": 2})
    with pytest.raises(Forbidden) as refusal:
        full.require_run("ada", GPU)
    assert str(refusal.value) == (
        "You have used 2 of 2 GPU-hours of this month. They renew on 01 December, 00:00 UTC. "
        "See %aiaas usage, or ask an administrator for more."
    )
    full.require_run("ada", Resources())  # it takes none of them
    full.require_run("bob", GPU)  # has his own
    budgets(Used(SPAN), default={"gpu_hours": 2.01}).require_run("ada", GPU)
    with pytest.raises(Forbidden, match="worker-hours"):
        budgets(Used(SPAN), default={"worker_hours": 1}).require_run("ada", Resources())
    budgets(Used(SPAN)).require_run("ada", GPU)  # nothing is limited


def test_a_group_shares_its_hours() -> None:
    bobs = replace(SPAN, owner="bob")
    groups = {"ada": ["s"], "bob": ["s"], "eve": []}
    used = Used(SPAN, bobs, groups=groups)
    shared = budgets(used, shared={"s": {"gpu_hours": 4}})
    with pytest.raises(Forbidden, match="The group s has used 4 of 4 GPU-hours"):
        shared.require_run("ada", GPU)
    shared.require_run("eve", GPU)
    [allowance] = shared.allowances("bob")
    assert (allowance.group, allowance.used, allowance.limit) == ("s", 4, 4)


def test_storage_and_endpoints_are_limited() -> None:
    used = Used()
    some = budgets(used, endpoints=2, default={"storage_gb": 1, "endpoints": 2})
    some.require_storage("ada")
    used.bytes = 10**9
    with pytest.raises(Forbidden, match="may store 1 GB"):
        some.require_storage("ada")
    with pytest.raises(Forbidden, match=r"2 endpoints.*%aiaas retire"):
        some.require_endpoint("ada", is_new=True)
    some.require_endpoint("ada", is_new=False)
    assert [(one.name, one.used, one.limit) for one in some.allowances("ada")] == [
        ("storage", 1, 1),
        ("endpoints", 2, 2),
    ]


def test_of_two_limits_of_runs_the_less_counts() -> None:
    less = budgets(Used(), default={"runs": 9, "workers": 3})
    assert less.run_limits("ada") == RunLimits(4, 3, UNLIMITED)


def test_a_file_is_read_anew_when_it_changes_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "quotas.yaml"
    file = YamlFile(path, Quotas, "quotas")
    assert file.read() == Quotas()
    path.write_text("default: {gpu_hours: 1}\n")
    assert file.read().default.gpu_hours == 1
    path.write_text("default: {gpu_hours: 20}\n")
    assert file.read().default.gpu_hours == 20
    before = file.read()
    path.write_text("default: {gpus: many}\n")
    with pytest.raises(InvalidInput, match=r"default\.gpus"):
        file.read()
    assert file.last() == before
    assert YamlFile(path, Quotas, "quotas").last() is None
    path.write_text("")
    assert file.read() == Quotas()


def profile(slug: str, cpus: float, gpus: int, price: float) -> Profile:
    return Profile(
        slug=slug, name=slug, description=slug, cpus=cpus, memory="1G", gpus=gpus,
        price_per_hour=price,
    )  # fmt: skip


def test_a_worker_costs_as_the_cheapest_profile_that_holds_it() -> None:
    profiles = [profile("small", 1, 0, 0.1), profile("large", 4, 0, 0.3), profile("gpu", 4, 1, 2.0)]
    for resources, concurrency, slug, price in (
        (Resources(workers=2, cpus_per_worker=1), 1, "small", 0.2),
        (Resources(workers=1, cpus_per_worker=3), 1, "large", 0.3),
        (Resources(workers=3, cpus_per_worker=1, gpus_per_worker=1), 1, "gpu", 6.0),
        (Resources(workers=1, cpus_per_worker=1, gpus_per_worker=0.5), 4, "gpu", 8.0),
        (Resources(workers=1, cpus_per_worker=8), 1, "large", 0.6),
        (Resources(workers=1, cpus_per_worker=1, gpus_per_worker=2), 1, "gpu", 4.0),
    ):
        found = rate(profiles, resources, concurrency)
        assert (found.profile, round(found.price_per_hour, 6)) == (slug, price), resources
    assert rate(profiles[:2], GPU, 1).price_per_hour == 0
    assert rate([], GPU, 1).profile == ""
