"""Envoy's own statistics of each version's share, as its admin interface answers them in JSON."""

from __future__ import annotations

import json
from collections import defaultdict
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


def _named(entry: dict[str, Any]) -> tuple[str, str, str]:
    return str(entry["name"]).removeprefix(_PREFIX).partition(".")
