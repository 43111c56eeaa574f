"""The verdict on a canary, from numbers alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from aiaas_hub.domain.traffic import with_share
from aiaas_hub.domain.verdict import judge, quantile
from aiaas_hub.schemas.agreement import alike, judged_output
from aiaas_hub.schemas.endpoints import Bake, Limits, VersionNumbers

START = datetime(2030, 1, 1, tzinfo=UTC)
END = START + timedelta(minutes=1)


def bake(canary: dict[str, Any], former: dict[str, Any] | None = None, **fields: Any) -> Bake:
    return Bake(
        started_at=START,
        ends_at=END,
        limits=Limits(),
        canary=VersionNumbers(**{"probes": 3, **canary}),
        former_version=1,
        former=VersionNumbers(**{"probes": 3, **(former or {})}),
        **fields,
    )


@pytest.mark.parametrize(
    ("seen", "promotes"),
    [
        (bake({}), True),
        (bake({"requests": 1000, "errors": 9}), True),
        (bake({"requests": 1000, "errors": 11}), False),
        # Callers make errors too: what both have is not the canary's fault.
        (bake({"requests": 100, "errors": 30}, {"requests": 900, "errors": 270}), True),
        (bake({"requests": 3, "errors": 1}), False),
        (bake({"probes": 1000, "probe_errors": 1}), True),
        (bake({"probe_errors": 1}), False),
        (bake({}, disagreement=0.25, rows=8), True),
        (bake({}, disagreement=0.26, rows=8), False),
        (bake({"requests": 20, "p95_ms": 30}, {"requests": 20, "p95_ms": 14}), False),
        (bake({"requests": 20, "p95_ms": 30}, {"requests": 20, "p95_ms": 15}), True),
        # Many times as slow, and still nothing that anybody would notice.
        (bake({"requests": 20, "p95_ms": 5}, {"requests": 20, "p95_ms": 0.5}), True),
        # Too few requests to tell: the probes do.
        (bake({"requests": 19, "p95_ms": 90}, {"requests": 20, "p95_ms": 1}), True),
        (bake({"probe_p50_ms": 40.0}, {"probe_p50_ms": 10.0}), False),
    ],
)
def test_at_the_end_of_a_bake(seen: Bake, promotes: bool) -> None:
    decided = judge(seen, END)
    assert decided is not None
    assert decided[0] is promotes, decided
    assert all(reason.endswith(".") for reason in decided[1])


def test_before_the_end_only_what_is_beyond_doubt() -> None:
    for early in (
        {},
        {"requests": 19, "errors": 19},
        {"probe_errors": 1},
        {"requests": 50, "p95_ms": 900},
    ):
        slow = {"requests": 50, "p95_ms": 1}
        assert judge(bake(early, slow), START) is None
    for late in ({"requests": 20, "errors": 10}, {"probe_errors": 2}):
        decided = judge(bake(late), START)
        assert decided is not None
        assert decided[0] is False


def test_nothing_is_promoted_that_nobody_looked_at() -> None:
    assert judge(bake({"probes": 0, "requests": 100}), END) is None


def test_quantiles_of_buckets() -> None:
    buckets = {1.0: 0, 2.0: 50, 4.0: 100, 8.0: 100}
    assert quantile(buckets, 0.5) == 2.0
    assert quantile(buckets, 0.75) == 3.0
    assert quantile(buckets, 1.0) == 4.0
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0}, 0.5) is None


@pytest.mark.parametrize(
    ("before", "percent", "after"),
    [
        ({1: 100}, 10, {1: 90, 2: 10}),
        ({1: 50, 3: 50}, 1, {1: 50, 3: 49, 2: 1}),
        ({1: 34, 3: 33, 4: 33}, 50, {1: 17, 3: 17, 4: 16, 2: 50}),
        ({1: 1, 3: 99}, 99, {3: 1, 2: 99}),
    ],
)
def test_a_share_is_taken_from_all(
    before: dict[int, int], percent: int, after: dict[int, int]
) -> None:
    made = with_share(before, 2, percent)
    assert made == after
    assert sum(made.values()) == 100


def test_alike() -> None:
    logits = np.array([[0.1, 0.9], [0.8, 0.2], [np.nan, 1.0]], np.float32)
    assert alike(logits, logits[:, ::-1]).tolist() == [False, False, False]
    assert alike(logits, logits + 5).tolist() == [True, True, True]
    numbers = np.array([0.0, 10.0, 20.0], np.float32)
    assert alike(numbers, numbers + np.float32([0.5, 0, 2])).tolist() == [True, True, False]
    words = np.array([1, 2])
    assert alike(words, np.array([1, 3])).tolist() == [True, False]
    # A choice among classes tells more than a column beside it.
    first = {"value": numbers, "scores": logits}
    assert judged_output(first, {"scores": logits, "value": numbers}) == "scores"
    assert judged_output(first, {"value": numbers[:2]}) is None
