"""The verdict on a canary, from numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from aiaas_hub.schemas.endpoints import Bake, VersionNumbers

ENOUGH = 20
"""Requests from which on a rate or a latency says something before the bake is over."""
SLACK_MS = 5.0
"""A version is not slow for so little, however fast the other one is."""

Verdict = tuple[bool, list[str]]
"""Whether to promote, and why."""


def judge(bake: Bake, now: datetime) -> Verdict | None:
    """None: too early, or for somebody to say. A canary that is bad beyond doubt does not bake to
    the end."""
    if bake.ends_at is None:
        return None
    over = now >= bake.ends_at
    against = [
        *_errors(bake, over=over),
        *_probes(bake, over=over),
        *_disagreement(bake),
        *(_slowness(bake) if over else []),
    ]
    if against:
        return False, against
    # A service that was away looks at least once before it says yes.
    if not over or not bake.canary.probes:
        return None
    return True, _for(bake)


def error_rate(numbers: VersionNumbers) -> float:
    return numbers.errors / numbers.requests if numbers.requests else 0.0


def quantile(latencies: Mapping[float, int], share: float) -> float | None:
    """In milliseconds, from counts of requests that took at most so long; linear within a bucket,
    as Prometheus' `histogram_quantile` does it. None without requests."""
    bounds = sorted(latencies)
    total = latencies[bounds[-1]] if bounds else 0
    if not total:
        return None
    wanted, below, start = share * total, 0, 0.0
    for bound in bounds:
        count = latencies[bound]
        if count >= wanted and count > below:
            return start + (bound - start) * (wanted - below) / (count - below)
        below, start = count, bound
    return bounds[-1]


def _errors(bake: Bake, *, over: bool) -> list[str]:
    canary, former = bake.canary, bake.former
    if not canary.requests or not (over or canary.requests >= ENOUGH):
        return []
    rate, other = error_rate(canary), error_rate(former)
    if rate <= other + bake.limits.max_error_rate:
        return []
    return [
        f"{canary.errors} of its {canary.requests} requests failed ({rate:.1%}); of the former "
        f"version's {former.errors} of {former.requests} ({other:.1%}), and "
        f"{bake.limits.max_error_rate:.1%} more are allowed."
    ]


def _probes(bake: Bake, *, over: bool) -> list[str]:
    canary = bake.canary
    # One may have met a restart.
    if canary.probe_errors < (1 if over else 2):
        return []
    if canary.probe_errors <= canary.probes * bake.limits.max_error_rate:
        return []
    return [
        f"{canary.probe_errors} of {canary.probes} canary inferences were not answered, or not as "
        "the source model does."
    ]


def _disagreement(bake: Bake) -> list[str]:
    if bake.disagreement is None or bake.disagreement <= bake.limits.max_disagreement:
        return []
    return [
        f"It answers {bake.disagreement:.1%} of {bake.rows} held-out rows otherwise than version "
        f"{bake.former_version}; {bake.limits.max_disagreement:.0%} are allowed."
    ]


def _slowness(bake: Bake) -> list[str]:
    canary, former, limit = bake.canary, bake.former, bake.limits.max_slowdown
    if min(canary.requests, former.requests) >= ENOUGH:
        mine, other, what = canary.p95_ms, former.p95_ms, "Its p95"
    else:
        # Too few requests: the service's own inferences, one row each.
        mine, other, what = canary.probe_p50_ms, former.probe_p50_ms, "The median of its probes"
    if mine is None or other is None or mine <= max(limit * other, other + SLACK_MS):
        return []
    return [
        f"{what} is {mine:.1f} ms, {mine / max(other, 1e-3):.1f} times version "
        f"{bake.former_version}'s {other:.1f} ms; {limit:g} times are allowed."
    ]


def _for(bake: Bake) -> list[str]:
    canary = bake.canary
    reasons = [
        f"{canary.errors} of its {canary.requests} requests failed."
        if canary.requests
        else "It got no requests, so the canary inferences alone decided.",
        f"{canary.probes - canary.probe_errors} of {canary.probes} canary inferences were right.",
    ]
    if canary.p95_ms is not None and bake.former.p95_ms is not None:
        reasons.append(
            f"Its p95 is {canary.p95_ms:.1f} ms, version {bake.former_version}'s "
            f"{bake.former.p95_ms:.1f} ms."
        )
    if bake.disagreement is not None:
        reasons.append(
            f"It answers {bake.disagreement:.1%} of {bake.rows} held-out rows otherwise than "
            f"version {bake.former_version}."
        )
    return reasons
