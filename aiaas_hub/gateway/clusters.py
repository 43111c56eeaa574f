"""The file of clusters (CDS): for each owner a way to Triton, and one to the translator before it.

They all lead to the same sockets, or to the pods of a group of servers. Each has its own
connections and its own limits, so that an owner whose models are slow or whose callers are many
waits in a queue of their own. An owner with a shadow has more of them, for the copies of requests:
see `mirrors.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiaas_hub.gateway.files import headers_added, versioned
from aiaas_hub.gateway.names import (
    FILTERS,
    METADATA,
    ONWARD_HEADER,
    TYPE,
    VERSION_HEADER,
    WAKER,
)

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


def mirror_name(owner: str) -> str:
    """Where the copies of an owner's requests go: the gateway's own listener for them."""
    return cluster_name(owner).replace("triton-", "mirror-")


def shadow_name(owner: str) -> str:
    """The way from there to Triton."""
    return cluster_name(owner).replace("triton-", "shadow-")


def translator_name(owner: str, *, shadow: bool = False) -> str:
    """The way to the translator of other protocols, also for copies of requests."""
    return cluster_name(owner).replace("triton-", "shadow-translator-" if shadow else "translator-")


def cluster_configuration(
    owners: Collection[str],
    triton: Path,
    parallel: int,
    *,
    translator: Path,
    mirror: Path,
    shadowed: Collection[str] = (),
    waker: Path | None = None,
) -> dict[str, Any]:
    """What the clusters file holds; `version_info` names the content.

    `triton` is its unix socket, `parallel` how many requests one owner may have in it; `translator`
    the translator's and `mirror` that of the listener for copies; `shadowed` which of the owners'
    requests are copied; `waker` the service's socket, where an endpoint sleeps.
    """
    way = _socket(triton)
    others = {translator_name(owner): _socket(translator) for owner in owners}
    others |= {translator_name(owner, shadow=True): _socket(translator) for owner in shadowed}
    if waker is not None:
        others[WAKER] = _socket(waker)
    return _file(dict.fromkeys(owners, way), parallel, mirror, shadowed, others)


def pods_configuration(
    hosts: Mapping[str, str],
    port: int,
    parallel: int,
    *,
    translator: Path,
    mirror: Path,
    shadowed: Collection[str] = (),
    secret: str | None = None,
) -> dict[str, Any]:
    """The same where an owner's Triton is the pods behind a name, which DNS answers with the
    addresses of all that are ready. `hosts`: owner → name. The translator is told which of these
    clusters its question is for (see `translation.py`), and not what the header `secret` holds."""
    ways = {
        owner: _Way({"socket_address": {"address": host, "port_value": port}}, _DISCOVERY)
        for owner, host in hosts.items()
    }
    hidden = [] if secret is None else [secret]
    others = {translator_name(one): _socket(translator, cluster_name(one), hidden) for one in hosts}
    others |= {
        translator_name(one, shadow=True): _socket(translator, shadow_name(one), hidden)
        for one in shadowed
    }
    return _file(ways, parallel, mirror, shadowed, others)


class _Way(NamedTuple):
    address: dict[str, Any]
    discovery: dict[str, Any]
    onward: str | None = None
    """The cluster that whoever is there asks in turn."""
    hidden: Sequence[str] = ()
    """Headers that are not for whoever is there."""


def _socket(path: Path, onward: str | None = None, hidden: Sequence[str] = ()) -> _Way:
    return _Way({"pipe": {"path": str(path)}}, {"type": "STATIC"}, onward, hidden)


def _file(
    ways: Mapping[str, _Way],
    parallel: int,
    mirror: Path,
    shadowed: Collection[str],
    others: Mapping[str, _Way],
) -> dict[str, Any]:
    named = {cluster_name(owner): way for owner, way in ways.items()}
    # What is too much for the first of these is not copied; so it is never for the others.
    named |= {mirror_name(owner): _socket(mirror) for owner in shadowed}
    named |= {shadow_name(owner): ways[owner] for owner in shadowed}
    named |= others
    return versioned([_cluster(name, way, parallel) for name, way in sorted(named.items())])


def _headers(way: _Way) -> dict[str, Any]:
    """What this way says to whoever is there, and to callers.

    Only Triton's answers say which version gave them: as the route that led there has it. A header
    of the route's own would be on refusals too, and tell anybody which endpoints there are.
    """
    version = {VERSION_HEADER: f"%METADATA(ROUTE:{METADATA}:version)%"}
    mutations = {"response_mutations": _appended(version)}
    if way.onward is not None:
        told = _appended({ONWARD_HEADER: way.onward})
        mutations["request_mutations"] = [*told, *({"remove": header} for header in way.hidden)]
    return {"@type": f"{FILTERS}.header_mutation.v3.HeaderMutation", "mutations": mutations}


def _appended(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"append": added} for added in headers_added(headers)]


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
                        "name": "envoy.filters.http.header_mutation",
                        "typed_config": _headers(way),
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
