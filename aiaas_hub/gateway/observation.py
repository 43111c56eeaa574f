"""A listener that shows of Envoy's admin interface its state and its statistics: whether it is
ready, which files it uses, what it counted. The rest, which can change and stop it, stays behind
the socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiaas_hub.gateway.names import FILTERS, TYPE

SHOWN = ("/ready", "/stats", "/stats/prometheus")
_CLUSTER = "admin"


def listener(address: str, port: int) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "observation",
        "route_config": {
            "name": "observation",
            "virtual_hosts": [
                {
                    "name": "observation",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {
                                "path": path,
                                "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
                            },
                            "route": {"cluster": _CLUSTER},
                        }
                        for path in SHOWN
                    ],
                }
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{FILTERS}.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "observation",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }


def cluster(admin: Path) -> dict[str, Any]:
    return {
        "name": _CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(admin)}}}}]}
            ],
        },
    }
