"""The file of clusters (CDS): for each owner a way to Triton, and one to the translator before it.

All owners' lead to the same sockets. Each has its own connections and its own limits, so that an
owner whose models are slow or whose callers are many waits in a queue of their own. An owner with
a shadow has more of them, for the copies of requests: see `mirrors.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
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


def predict_name(owner: str, *, shadow: bool = False) -> str:
    """The way to the translator of TensorFlow Serving's protocol, also for copies of requests."""
    return cluster_name(owner).replace("triton-", "shadow-predict-" if shadow else "predict-")


def cluster_configuration(
    owners: Collection[str],
    triton: Path,
    parallel: int,
    *,
    predict: Path,
    mirror: Path,
    shadowed: Collection[str] = (),
) -> dict[str, Any]:
    """What the clusters file holds; `version_info` names the content.

    `triton` is its unix socket, `parallel` how many requests one owner may have in it; `predict`
    the translator's and `mirror` that of the listener for copies; `shadowed` are those whose
    requests are copied.
    """
    ways = [
        *((cluster_name(owner), triton) for owner in owners),
        *((predict_name(owner), predict) for owner in owners),
        # What is too much for the first of these is not copied; so it is never for the others.
        *((mirror_name(owner), mirror) for owner in shadowed),
        *((shadow_name(owner), triton) for owner in shadowed),
        *((predict_name(owner, shadow=True), predict) for owner in shadowed),
    ]
    resources = [_cluster(name, socket, parallel) for name, socket in sorted(set(ways))]
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
