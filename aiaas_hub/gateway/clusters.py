"""The file of clusters (CDS): a way to Triton for each owner.

They all lead to the same socket. Each has its own connections and its own limits, so that an owner
whose models are slow or whose callers are many waits in a queue of their own. An owner with a
shadow has two more, for the copies of requests: see `mirrors.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiaas_hub.gateway.names import FILTERS, MUTATION, TYPE

WAITING = 2
"""So many times the requests that are inferred at the same time may wait for their turn."""


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
    the unix socket of the listener for copies, and `shadowed` whose requests are copied.
    """
    resources = [
        *(_cluster(cluster_name(owner), triton, parallel) for owner in sorted(set(owners))),
        *(
            _cluster(name, socket, parallel)
            for owner in sorted(set(shadowed))
            # What is too much for the first is not copied; so it is never for the second.
            for name, socket in ((mirror_name(owner), mirror), (shadow_name(owner), triton))
        ),
    ]
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": resources}


def _cluster(name: str, socket: Path, parallel: int) -> dict[str, Any]:
    return {
        "@type": f"{TYPE}envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
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
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}}]}
            ],
        },
    }
