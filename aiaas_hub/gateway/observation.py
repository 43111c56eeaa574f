"""A listener that shows of Envoy's admin interface its state and its statistics: whether it is
ready, which files it uses, what it counted. The rest, which can change and stop it, stays behind
the socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiaas_hub.gateway.inner import inner_listener

SHOWN = ("/ready", "/stats", "/stats/prometheus")
_NAME = "observation"
_CLUSTER = "admin"


def listener(address: str, port: int) -> dict[str, Any]:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    routes = {
        "name": _NAME,
        "virtual_hosts": [
            {
                "name": _NAME,
                "domains": ["*"],
                "routes": [
                    {"match": {"path": path, "headers": [get]}, "route": {"cluster": _CLUSTER}}
                    for path in SHOWN
                ],
            }
        ],
    }
    where = {"socket_address": {"address": address, "port_value": port}}
    return inner_listener(_NAME, where, {"route_config": routes})


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
