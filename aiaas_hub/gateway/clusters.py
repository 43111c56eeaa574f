"""The file of clusters (CDS): a way to Triton for each owner.

They all lead to the same socket, or to the pods of a group of servers. Each has its own
connections and its own limits, so that an owner whose models are slow or whose callers are many
waits in a queue of their own. An owner with a shadow has two more, for the copies of requests: see
`mirrors.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aiaas_hub.gateway.names import FILTERS, MUTATION, TYPE

WAITING = 2
"""So many times the requests that are inferred at the same time may wait for their turn."""


_DISCOVERY: dict[str, Any] = {
    "type": "STRICT_DNS",
    "dns_lookup_family": "V4_PREFERRED",
    "dns_refresh_rate": "2s",
    "respect_dns_ttl": False,
    "lb_policy": "LEAST_REQUEST",
    # A pod that is gone before its name says so is left out at the first connection that fails;
    # the request goes to another one. What a model answers is the model's own.
    "outlier_detection": {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 1,
        "base_ejection_time": "3s",
        "max_ejection_percent": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
    },
}


def cluster_name(owner: str) -> str:
    """A name in which no owner's characters can mean anything to Envoy."""
    return f"triton-{hashlib.sha256(owner.encode()).hexdigest()[:16]}"


def mirror_name(owner: str) -> str:
    """Where the copies of an owner's requests go: the gateway's own listener for them."""
    return cluster_name(owner).replace("triton-", "mirror-")


def shadow_name(owner: str) -> str:
    """The way from there to Triton."""
    return cluster_name(owner).replace("triton-", "shadow-")


def cluster_configuration(
    owners: Iterable[str],
    triton: Path,
    parallel: int,
    *,
    mirror: Path,
    shadowed: Iterable[str] = (),
) -> dict[str, Any]:
    """What the clusters file holds; `version_info` names the content.

    `triton` is its unix socket, `parallel` how many requests one owner may have in it; `mirror`
    the unix socket of the listener for copies, and `shadowed` which of the owners' requests are
    copied.
    """
    return _file({owner: _socket(triton) for owner in owners}, parallel, mirror, shadowed)


def pods_configuration(
    hosts: Mapping[str, str],
    port: int,
    parallel: int,
    *,
    mirror: Path,
    shadowed: Iterable[str] = (),
) -> dict[str, Any]:
    """The same where an owner's Triton is the pods behind a name, which DNS answers with the
    addresses of all that are ready. `hosts`: owner → name."""
    ways = {
        owner: _Way({"socket_address": {"address": host, "port_value": port}}, _DISCOVERY)
        for owner, host in hosts.items()
    }
    return _file(ways, parallel, mirror, shadowed)


class _Way(NamedTuple):
    address: dict[str, Any]
    discovery: dict[str, Any]


def _socket(path: Path) -> _Way:
    return _Way({"pipe": {"path": str(path)}}, {"type": "STATIC"})


def _file(
    ways: Mapping[str, _Way], parallel: int, mirror: Path, shadowed: Iterable[str]
) -> dict[str, Any]:
    resources = [
        *(_cluster(cluster_name(owner), way, parallel) for owner, way in sorted(ways.items())),
        *(
            _cluster(name, way, parallel)
            for owner in sorted(set(shadowed))
            # What is too much for the first is not copied; so it is never for the second.
            for name, way in (
                (mirror_name(owner), _socket(mirror)),
                (shadow_name(owner), ways[owner]),
            )
        ),
    ]
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": resources}


def _cluster(name: str, way: _Way, parallel: int) -> dict[str, Any]:
    return {
        "@type": f"{TYPE}envoy.config.cluster.v3.Cluster",
        "name": name,
        **way.discovery,
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": parallel,
                    "max_pending_requests": WAITING * parallel,
                    "max_requests": (1 + WAITING) * parallel,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "http_filters": [
                    {
                        "name": MUTATION,
                        "typed_config": {"@type": f"{FILTERS}.header_mutation.v3.HeaderMutation"},
                    },
                    {
                        "name": "envoy.filters.http.upstream_codec",
                        "typed_config": {"@type": f"{FILTERS}.upstream_codec.v3.UpstreamCodec"},
                    },
                ],
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": way.address}}]}],
        },
    }
