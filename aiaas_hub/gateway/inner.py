"""Envoy's listeners beside the one for callers: on sockets in a private directory, and the one that
shows what it counted.

They check no keys: what arrives on a socket was admitted by the listener for callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.gateway.names import FILTERS, TYPE


def at_socket(path: Path) -> dict[str, Any]:
    return {"pipe": {"path": str(path), "mode": 0o600}}


def inner_listener(
    name: str, address: Mapping[str, Any], manager: Mapping[str, Any]
) -> dict[str, Any]:
    """`manager`: where its routes come from, and whatever else of its connection manager."""
    router = {"@type": f"{FILTERS}.router.v3.Router", "suppress_envoy_headers": True}
    return {
        "name": name,
        "address": address,
        # Callers who hold all connections must not keep Envoy from its own, nor probes out.
        "ignore_global_conn_limit": True,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": f"{TYPE}envoy.extensions.filters.network"
                            ".http_connection_manager.v3.HttpConnectionManager",
                            "stat_prefix": name,
                            "http_filters": [
                                {"name": "envoy.filters.http.router", "typed_config": router}
                            ],
                            **manager,
                        },
                    }
                ]
            }
        ],
    }
