"""The translator's way on to Triton where that is pods: through Envoy, which knows the addresses of
each owner's, has the secret with which they infer, and counts what an owner asks of them.

The cluster that leads to the translator says in a header which cluster is to be asked; on the way
back that is all the route looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.gateway.inner import inner_listener
from aiaas_hub.gateway.names import ONWARD_HEADER, RETRIES, headers_added

_NAME = "onward"


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
                        "match": {"prefix": "/v2/models/"},
                        # The endpoint's own limit ends it, by the translator.
                        "route": {"cluster_header": ONWARD_HEADER, "timeout": "0s"},
                    }
                ],
            }
        ],
    }
    return inner_listener(_NAME, socket, {"route_config": routes, "local_reply_config": replies})
