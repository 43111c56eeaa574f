"""The translator's way on to Triton where that is pods: through Envoy, which knows the addresses of
each owner's, has the secret with which they infer, and counts what an owner asks of them.

The cluster that leads to the translator says in a header which cluster is to be asked; on the way
back that is all the route looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.gateway.files import RETRIES, headers_added
from aiaas_hub.gateway.inner import at_socket, inner_listener
from aiaas_hub.gateway.names import ONWARD_HEADER

_NAME = "onward"
_TRITON = {
    "name": ONWARD_HEADER,
    "string_match": {"safe_regex": {"regex": "(triton|shadow)-[0-9a-f]{16}"}},
}


def onward_listener(
    socket: Path, headers: Mapping[str, str], replies: Mapping[str, Any]
) -> dict[str, Any]:
    """`headers` go to Triton with each request; `replies`: how Envoy's own answers look."""
    routes = {
        "name": _NAME,
        "request_headers_to_add": headers_added(headers),
        "virtual_hosts": [
            {
                # Of another name than the endpoints': there each request is counted already.
                "name": _NAME,
                "domains": ["*"],
                "request_headers_to_remove": [ONWARD_HEADER],
                "retry_policy": RETRIES,
                "routes": [
                    {
                        # No other cluster, whatever becomes of the translator.
                        "match": {"prefix": "/v2/models/", "headers": [_TRITON]},
                        # The endpoint's own limit ends it, by the translator.
                        "route": {"cluster_header": ONWARD_HEADER, "timeout": "0s"},
                    }
                ],
            }
        ],
    }
    manager = {"route_config": routes, "local_reply_config": replies, "normalize_path": True}
    return inner_listener(_NAME, at_socket(socket), manager)
