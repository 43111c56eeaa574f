"""Envoy's bootstrap: the part of its configuration that knows no endpoint.

jwt_authn   every request needs a token signed by our key that has not expired: 401
            its claims become headers, by which the routes refuse keys of others: 403
ratelimit   keys that have a rate of their own: 429
buffer      bodies up to a limit: 413
router      the routes' paths; everything else: 404
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.gateway import observation
from aiaas_hub.gateway.keys import ISSUER
from aiaas_hub.gateway.mirrors import mirror_listener
from aiaas_hub.gateway.names import (
    BUFFER,
    CLAIMS,
    COMPLETIONS,
    FILTERS,
    JWT,
    RATE,
    ROUTES,
    TYPE,
)
from aiaas_hub.gateway.routes import MAX_JSON_BYTES
from aiaas_hub.gateway.translation import onward_listener

MAX_REQUEST_BYTES = 64 << 20
MAX_CONNECTIONS = 4096
_OPENAI_PATHS = rf".*/v1/(.*/)?({'|'.join(COMPLETIONS)})(\?.*)?"
LATENCY_BUCKETS = [
    *(0.5, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 50, 70, 100, 150, 200, 300, 500),
    *(750, 1000, 1500, 2000, 3000, 5000, 10_000, 30_000, 60_000, 120_000),
]
"""Milliseconds; Envoy measures whole ones."""

_ERRORS = {
    401: (
        "unauthenticated",
        "This endpoint needs a valid key.",
        "Send `Authorization: Bearer KEY`.",
    ),
    403: (
        "forbidden",
        "This key is revoked or for another endpoint.",
        "Make a key of this endpoint.",
    ),
    404: ("not_found", "There is no such endpoint or path.", "Look at `%aiaas endpoints`."),
    429: (
        "too_many",
        "This key, or its endpoint's owner, sends more at a time than is allowed.",
        "Call more slowly, or with larger batches.",
    ),
    413: (
        "too_large",
        f"A request has at most {MAX_REQUEST_BYTES >> 20} MiB, {MAX_JSON_BYTES >> 20} MiB as JSON.",
        "Send smaller batches, or binary tensors as tritonclient does.",
    ),
    503: ("unavailable", "The model server is not up.", "Try again in a moment."),
    504: ("unavailable", "The model took longer than its endpoint allows.", "Send fewer rows."),
}


def bootstrap(
    *,
    port: int,
    admin: Path,
    clusters: Path,
    routes: Path,
    mirror: Path,
    mirrors: Path,
    jwks: Mapping[str, Any],
    address: str = "127.0.0.1",
    observed_port: int | None = None,
    onward: Path | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The static part. `admin` and `mirror` are unix sockets; `clusters`, `routes` and `mirrors`
    are watched files.

    `observed_port`: where the state and the statistics can be read, and nothing else of the admin
    interface. `onward`: a unix socket from which the translator's questions go on to Triton, with
    these `headers`.
    """
    static: dict[str, Any] = {
        "listeners": [
            _listener(address, port, _watched(routes), jwks),
            mirror_listener(mirror, _watched(mirrors)),
        ]
    }
    if observed_port is not None:
        static["listeners"].append(observation.listener(address, observed_port))
        static["clusters"] = [observation.cluster(admin)]
    if onward is not None:
        static["listeners"].append(onward_listener(onward, headers or {}, _errors()))
    return {
        "node": {"id": "gateway", "cluster": "aiaas"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "static_resources": static,
        "dynamic_resources": {"cds_config": _watched(clusters)},
        # Envoy's usual resolver keeps an answer as long as its TTL says, however often it is asked
        # (https://github.com/envoyproxy/envoy/pull/45073), and so leads to pods that are gone.
        "typed_dns_resolver_config": {
            "name": "envoy.network.dns_resolver.getaddrinfo",
            "typed_config": {
                "@type": f"{TYPE}envoy.extensions.network.dns_resolver.getaddrinfo.v3"
                ".GetAddrInfoDnsResolverConfig",
                # A name that fails is asked for again in two seconds, and not for ever at once;
                # one that is slow keeps none but itself waiting.
                "num_retries": 0,
                "num_resolver_threads": 4,
            },
        },
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": LATENCY_BUCKETS}
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{TYPE}envoy.extensions.resource_monitors.downstream_connections"
                        ".v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
        "layered_runtime": {
            "layers": [
                # By default Envoy refuses a pattern of a long name, and with it the whole file.
                {"name": "static", "static_layer": {"re2.max_program_size.error_level": 1 << 20}}
            ]
        },
    }


def _watched(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _listener(
    address: str, port: int, routes: Mapping[str, Any], jwks: Mapping[str, Any]
) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "rds": {
            "route_config_name": ROUTES,
            "config_source": routes,
        },
        # Before a route is chosen for the first time: the filter for keys takes these away later,
        # and has the route chosen anew only for keys that have claims.
        "early_header_mutation_extensions": [
            {
                "name": "claims",
                "typed_config": {
                    "@type": f"{TYPE}envoy.extensions.http.early_header_mutation.header_mutation"
                    ".v3.HeaderMutation",
                    "mutations": [{"remove": header} for header in CLAIMS.values()],
                },
            }
        ],
        "http_filters": [
            _authentication(jwks),
            _key_rates(),
            _body_limit(),
            _router(),
        ],
        "local_reply_config": _errors(),
        "server_name": "aiaas",
        # What is matched is what is meant: dot segments are resolved first, and a quoted slash
        # stands in no address of ours.
        "normalize_path": True,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "use_remote_address": True,
        # Nobody is internal, so nobody may set timeouts and retries through x-envoy- headers. An
        # empty list would mean the default, which has loopback in it.
        "internal_address_config": {
            "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
        },
        "generate_request_id": True,
        "max_request_headers_kb": 32,
        "request_headers_timeout": "10s",
        "request_timeout": "120s",
        "stream_idle_timeout": "300s",
        "common_http_protocol_options": {
            "idle_timeout": "300s",
            "headers_with_underscores_action": "DROP_HEADER",
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 1 << 16,
            "initial_connection_window_size": 1 << 20,
        },
    }
    return {
        "name": "gateway",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "per_connection_buffer_limit_bytes": 1 << 20,
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


def _authentication(jwks: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": JWT,
        "typed_config": {
            "@type": f"{FILTERS}.jwt_authn.v3.JwtAuthentication",
            "providers": {
                "aiaas": {
                    "issuer": ISSUER,
                    "local_jwks": {"inline_string": json.dumps(jwks, sort_keys=True)},
                    # The default would take `?access_token=` too, which ends up in logs.
                    "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
                    "require_expiration": True,
                    "clock_skew_seconds": 5,
                    # A request that woke its endpoint is checked again. Routes to models take it
                    # away.
                    "forward": True,
                    "claim_to_headers": [
                        {"claim_name": claim, "header_name": header}
                        for claim, header in CLAIMS.items()
                    ],
                    # The route is looked for again, with these.
                    "clear_route_cache": True,
                    "jwt_cache_config": {"jwt_cache_size": 1000},
                }
            },
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "aiaas"}}],
        },
    }


def _key_rates() -> dict[str, Any]:
    """Without a bucket nothing is limited: the routes have the keys' rates."""
    return {
        "name": RATE,
        "typed_config": {
            "@type": f"{FILTERS}.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "keys",
        },
    }


def _body_limit() -> dict[str, Any]:
    return {
        "name": BUFFER,
        "typed_config": {
            "@type": f"{FILTERS}.buffer.v3.Buffer",
            "max_request_bytes": MAX_REQUEST_BYTES,
        },
    }


def _router() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{FILTERS}.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }


def _errors() -> dict[str, Any]:
    """Envoy's own answers. `error` is a string, as the Open Inference Protocol wants it and
    tritonclient takes it; beside it are the parts of the platform's one error shape."""
    return {
        "mappers": [
            *_of_openai(),
            # An owner who has as many requests in flight as may be; Envoy itself would say 503.
            {
                "filter": {"response_flag_filter": {"flags": ["UO"]}},
                "status_code": 429,
                "body_format_override": _error_format(*_ERRORS[429]),
            },
            *(
                {"filter": _has_status(status), "body_format_override": _error_format(*error)}
                for status, error in _ERRORS.items()
            ),
        ],
        "body_format": _error_format("invalid", "The gateway refused the request.", ""),
    }


def _of_openai() -> list[dict[str, Any]]:
    """The same on its paths, which the router may have written anew before it refuses: an object,
    whose message its clients show."""
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": _OPENAI_PATHS}}}
    is_openai = {"header_filter": {"header": path}}
    full = {"response_flag_filter": {"flags": ["UO"]}}
    filters = [(full, 429), *((_has_status(status), status) for status in _ERRORS)]
    return [
        {
            "filter": {"and_filter": {"filters": [is_openai, told]}},
            **({"status_code": status} if told is full else {}),
            "body_format_override": _openai_format(status),
        }
        for told, status in filters
    ]


def _openai_format(status: int) -> dict[str, Any]:
    code, message, remedy = (part.replace("%", "%%") for part in _ERRORS[status])
    kind = "invalid_request_error" if status < 500 else "server_error"
    told = {"message": f"{message} {remedy}".strip(), "type": kind, "param": None, "code": code}
    return {"json_format": {"error": told, "request_id": "%REQ(X-REQUEST-ID)%"}}


def _has_status(status: int) -> dict[str, Any]:
    value = {"default_value": status, "runtime_key": f"reply.{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _error_format(code: str, message: str, remedy: str) -> dict[str, Any]:
    # A percent sign would begin one of Envoy's own commands.
    message, remedy = message.replace("%", "%%"), remedy.replace("%", "%%")
    return {
        "json_format": {
            "error": f"{message} {remedy}".strip(),
            "code": code,
            "remedy": remedy,
            "request_id": "%REQ(X-REQUEST-ID)%",
        }
    }
