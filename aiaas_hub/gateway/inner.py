"""Envoy's own listeners, on sockets in its private directory.

They check no keys: what arrives was admitted by the outer listener, and nobody but this user
reaches a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.gateway.names import FILTERS, TYPE


def inner_listener(name: str, socket: Path, manager: Mapping[str, Any]) -> dict[str, Any]:
    """`manager`: where its routes come from, and whatever else of its connection manager."""
    router = {"@type": f"{FILTERS}.router.v3.Router", "suppress_envoy_headers": True}
    return {
        "name": name,
        "address": {"pipe": {"path": str(socket), "mode": 0o600}},
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
