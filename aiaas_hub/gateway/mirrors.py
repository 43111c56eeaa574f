"""Copies of requests, for the versions that are shadows.

Envoy copies a request as the first version gets it, its path included, and cannot give the copy
another one. So copies go to a second listener of Envoy's own, a socket in a private directory,
whose routes (a second file of RDS) know from the path which shadow it is for. There a shadow has
statistics like every other version's, and beside the callers' its own connections to Triton.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.gateway.clusters import mirror_name, shadow_name, translator_name
from aiaas_hub.gateway.files import RETRIES, versioned
from aiaas_hub.gateway.inner import at_socket, inner_listener
from aiaas_hub.gateway.names import (
    COMPLETIONS,
    INFER_SECONDS,
    MIRRORS,
    TYPE,
    VIRTUAL_HOST,
    inference_path,
    statistics_name,
    version_path,
)


def mirror_policies(route: Route) -> dict[str, Any]:
    """Of the action of each route that shares out an endpoint's inference."""
    if route.shadow is None:
        return {}
    return {
        "request_mirror_policies": [
            {
                "cluster": mirror_name(route.owner),
                "runtime_fraction": {
                    "default_value": {"numerator": route.shadow.percent, "denominator": "HUNDRED"}
                },
                "disable_shadow_host_suffix_append": True,
            }
        ]
    }


def mirror_configuration(routes: Sequence[Route]) -> dict[str, Any]:
    """What the file of the second listener's routes holds; `version_info` names the content."""
    ordered = sorted(routes, key=lambda route: (route.owner, route.endpoint))
    content = {
        "@type": f"{TYPE}envoy.config.route.v3.RouteConfiguration",
        "name": MIRRORS,
        "virtual_hosts": [
            {
                # Of the same name, so that the statistics of all versions are in one place.
                "name": VIRTUAL_HOST,
                "domains": ["*"],
                "routes": [entry for route in ordered for entry in _entries(route)],
            }
        ],
    }
    return versioned([content])


def shadowed(routes: Iterable[Route]) -> set[str]:
    """Owners whose requests are copied."""
    return {route.owner for route in routes if route.shadow is not None}


def _entries(route: Route) -> list[dict[str, Any]]:
    shadow = route.shadow
    if shadow is None:
        return []
    return [
        {
            "match": {"path": path},
            "stat_prefix": statistics_name(shadow),
            "route": {
                "cluster": cluster,
                "timeout": f"{shadow.timeout_seconds or INFER_SECONDS:g}s",
                "prefix_rewrite": shadowed_path,
                "retry_policy": RETRIES,
            },
        }
        for target in route.targets
        if target.percent > 0
        for cluster, path, shadowed_path in _ways(route, target, shadow)
    ]


def _ways(route: Route, target: RouteTarget, shadow: RouteTarget) -> Iterator[tuple[str, str, str]]:
    """Cluster, the target's path and the shadow's: Triton's own, and the translator's."""
    yield shadow_name(route.owner), inference_path(target), inference_path(shadow)
    theirs, ours = version_path(target), version_path(shadow)
    translator = translator_name(route.owner, shadow=True)
    for below in (":predict", *(f"/{what}" for what in COMPLETIONS)):
        yield translator, theirs + below, ours + below


def mirror_listener(socket: Path, routes: Mapping[str, Any]) -> dict[str, Any]:
    """`routes`: the source of its routes."""
    rds = {"route_config_name": MIRRORS, "config_source": routes}
    return inner_listener("mirror", at_socket(socket), {"rds": rds})
