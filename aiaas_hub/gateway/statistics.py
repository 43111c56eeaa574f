"""Envoy's own statistics of each version's share, as its admin interface answers them in JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from aiaas_hub.domain.ports import VersionTraffic
from aiaas_hub.gateway.names import VIRTUAL_HOST, statistics_target

_PREFIX = f"vhost.{VIRTUAL_HOST}.route."
_LATENCY = "upstream_rq_time"


def read(body: bytes) -> dict[tuple[str, int], VersionTraffic]:
    """From `/stats?format=json&histogram_buckets=cumulative`. Raises `ValueError` for what is not
    that."""
    counters: dict[str, dict[str, int]] = defaultdict(dict)
    latencies: dict[str, dict[float, int]] = {}
    for entry in json.loads(body)["stats"]:
        for histogram in entry.get("histograms", ()):
            name, _, what = _named(histogram)
            if what == _LATENCY:
                latencies[name] = {
                    float(bucket["upper_bound"]): int(bucket["cumulative"])
                    for bucket in histogram["buckets"]
                }
        if "value" in entry:
            name, _, what = _named(entry)
            counters[name][what] = int(entry["value"])
    return {
        statistics_target(name): VersionTraffic(
            requests=found.get("upstream_rq_completed", 0),
            errors=found.get("upstream_rq_5xx", 0),
            refused=found.get("upstream_rq_4xx", 0),
            latencies=latencies.get(name, {}),
        )
        for name, found in counters.items()
    }


def added(
    several: Iterable[Mapping[tuple[str, int], VersionTraffic]],
) -> dict[tuple[str, int], VersionTraffic]:
    """What several gateways counted, together."""
    total: dict[tuple[str, int], VersionTraffic] = {}
    for one in several:
        for key, found in one.items():
            former = total.get(key)
            total[key] = found if former is None else _sum(former, found)
    return total


def added_text(several: Iterable[bytes]) -> bytes:
    """The same of Prometheus' text form: each series is the sum of its values."""
    values: dict[str, float] = {}
    lines: list[str] = []
    for text in several:
        for line in text.decode().splitlines():
            if not line.strip():
                continue
            series, _, value = line.rpartition(" ")
            if line.startswith("#"):
                series = line
            if series not in values:
                lines.append(series)
                values[series] = 0.0
            if not line.startswith("#"):
                values[series] += float(value)
    told = (one if one.startswith("#") else f"{one} {values[one]:.17g}" for one in lines)
    return "".join(f"{line}\n" for line in told).encode()


def _sum(one: VersionTraffic, other: VersionTraffic) -> VersionTraffic:
    bounds = sorted({*one.latencies, *other.latencies})
    return VersionTraffic(
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        refused=one.refused + other.refused,
        latencies={
            bound: one.latencies.get(bound, 0) + other.latencies.get(bound, 0) for bound in bounds
        },
    )


def _named(entry: dict[str, Any]) -> tuple[str, str, str]:
    return str(entry["name"]).removeprefix(_PREFIX).partition(".")
