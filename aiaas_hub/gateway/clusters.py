"""The file of clusters (CDS): a way to Triton for each owner.

They all lead to the same socket, or to the pods of a group of servers. Each has its own
connections and its own limits, so that an owner whose models are slow or whose callers are many
waits in a queue of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.gateway.names import FILTERS, MUTATION, TYPE

WAITING = 2
"""So many times the requests that are inferred at the same time may wait for their turn."""


_DISCOVERY: dict[str, Any] = {
    "cluster_type": {
        "name": "envoy.cluster.dns",
        "typed_config": {
            "@type": f"{TYPE}envoy.extensions.clusters.dns.v3.DnsCluster",
            "dns_lookup_family": "V4_PREFERRED",
            "dns_refresh_rate": "2s",
            "respect_dns_ttl": False,
        },
    },
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


def cluster_configuration(owners: Iterable[str], triton: Path, parallel: int) -> dict[str, Any]:
    """What the clusters file holds; `version_info` names the content.

    `triton` is its unix socket, `parallel` how many requests one owner may have in it.
    """
    socket = {"pipe": {"path": str(triton)}}
    return _file(
        [_cluster(owner, socket, {"type": "STATIC"}, parallel) for owner in sorted(set(owners))]
    )


def pods_configuration(hosts: Mapping[str, str], port: int, parallel: int) -> dict[str, Any]:
    """The same where an owner's Triton is the pods behind a name, which DNS answers with the
    addresses of all that are ready. `hosts`: owner → name."""
    return _file(
        [
            _cluster(
                owner,
                {"socket_address": {"address": host, "port_value": port}},
                _DISCOVERY,
                parallel,
            )
            for owner, host in sorted(hosts.items())
        ]
    )


def _file(resources: list[dict[str, Any]]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": resources}


def _cluster(
    owner: str, address: dict[str, Any], discovery: dict[str, Any], parallel: int
) -> dict[str, Any]:
    return {
        "@type": f"{TYPE}envoy.config.cluster.v3.Cluster",
        "name": cluster_name(owner),
        **discovery,
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
            "cluster_name": cluster_name(owner),
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
