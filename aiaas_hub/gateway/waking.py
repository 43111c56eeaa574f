"""Endpoints that sleep: their callers' requests go to the service, which wakes them.

Only of endpoints that are asleep, and only until they are awake. The service answers with a
redirect to the very address that was called, and Envoy, which kept the request, follows it by
itself through the routes as they are then. So the caller waits, and is answered by Triton; the
service gives no answers of models. Where it cannot wake the endpoint it says so, HTTP 503.
"""

from __future__ import annotations

from typing import Any

from aiaas_hub.gateway.names import INFER_SECONDS, WAKER

REDIRECT = 307


def entries(base: str) -> list[dict[str, Any]]:
    """`base`: the pattern of the endpoint's address. What refuses keys stands before these, too:
    nobody else wakes an endpoint."""
    return [
        {
            "match": {
                "safe_regex": {"regex": f"{base}/v[12]/.+"},
                "headers": [{"name": ":method", "string_match": {"exact": method}}],
            },
            "route": {
                "cluster": WAKER,
                "timeout": f"{INFER_SECONDS:g}s",
                "internal_redirect_policy": {
                    "max_internal_redirects": 1,
                    "redirect_response_codes": [REDIRECT],
                },
            },
            # No header is added: of a request that is followed elsewhere Envoy (1.40) would keep
            # the name in the memory of this route, which is gone with the file that it is in.
        }
        for method in ("POST", "GET")
    ]
