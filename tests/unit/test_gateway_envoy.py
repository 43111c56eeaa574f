"""Envoy's configuration, compared whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.gateway.bootstrap import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    bootstrap,
    to_text,
)
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.gateway.routes import path_pattern, route_configuration
from aiaas_hub.home import Home

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
NOTHING_ELSE = {
    "match": {"prefix": "/"},
    "direct_response": {"status": 404},
    "typed_per_filter_config": {
        "envoy.filters.http.rbac": {"@type": f"{FILTERS}.rbac.v3.RBACPerRoute"}
    },
}


def _claim(name: str, value: str) -> dict[str, object]:
    return {
        "sourced_metadata": {
            "metadata_matcher": {
                "filter": "envoy.filters.http.jwt_authn",
                "path": [{"key": "claims"}, {"key": name}],
                "value": {"string_match": {"exact": value}},
            }
        }
    }


def _entry(
    method: str,
    pattern: str,
    rewritten: str,
    version: int,
    principal: object,
    fraction: int | None = None,
) -> dict[str, object]:
    match: dict[str, object] = {
        "safe_regex": {"regex": pattern},
        "headers": [{"name": ":method", "string_match": {"exact": method}}],
    }
    if fraction is not None:
        match["runtime_fraction"] = {
            "default_value": {"numerator": fraction, "denominator": "HUNDRED"}
        }
    return {
        "match": match,
        "route": {
            "cluster": "triton",
            "timeout": "120s",
            "regex_rewrite": {"pattern": {"regex": f"^{pattern}$"}, "substitution": rewritten},
            "retry_policy": {"retry_on": "connect-failure,reset-before-request", "num_retries": 2},
        },
        "request_headers_to_remove": ["authorization", "cookie", "content-encoding"],
        "typed_per_filter_config": {
            "envoy.filters.http.rbac": {
                "@type": f"{FILTERS}.rbac.v3.RBACPerRoute",
                "rbac": {
                    "rules": {
                        "action": "ALLOW",
                        "policies": {
                            "key": {"permissions": [{"any": True}], "principals": [principal]}
                        },
                    }
                },
            },
            "envoy.filters.http.header_mutation": {
                "@type": f"{FILTERS}.header_mutation.v3.HeaderMutationPerRoute",
                "mutations": {
                    "response_mutations": [
                        {
                            "append": {
                                "header": {"key": "x-aiaas-model-version", "value": str(version)},
                                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                            }
                        }
                    ]
                },
            },
        },
    }


def _inference(
    pattern: str, rewritten: str, version: int, principal: object, fraction: int | None = None
) -> list[dict[str, Any]]:
    """Tensors in binary behind a short header, and JSON within a megabyte."""
    binary: dict[str, Any] = _entry("POST", pattern, rewritten, version, principal, fraction)
    plain: dict[str, Any] = _entry("POST", pattern, rewritten, version, principal, fraction)
    length = {"name": "inference-header-content-length"}
    short = {"safe_regex": {"regex": "[0-9]{1,6}"}}
    binary["match"]["headers"].append({**length, "string_match": short})
    plain["match"]["headers"].append({**length, "present_match": False})
    plain["typed_per_filter_config"]["envoy.filters.http.buffer"] = {
        "@type": f"{FILTERS}.buffer.v3.BufferPerRoute",
        "buffer": {"max_request_bytes": 1 << 20},
    }
    return [binary, plain]


def _document(entries: list[dict[str, object]]) -> list[dict[str, object]]:
    return [
        {
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": "endpoints",
            "virtual_hosts": [
                {"name": "gateway", "domains": ["*"], "routes": [*entries, NOTHING_ELSE]}
            ],
        }
    ]


def test_no_routes() -> None:
    assert route_configuration([])["resources"] == _document([])


def test_one_endpoint_with_three_versions_and_a_revoked_key() -> None:
    route = Route(
        owner="ann",
        endpoint="digits",
        targets=[RouteTarget("d-1", 4, 50), RouteTarget("d-2", 5, 30), RouteTarget("d-2", 6, 20)],
        audience="ann/digits",
        revoked=["k2", "k1"],
    )
    model = "models/[^/]+(?:/versions/[^/]+)?"
    infer = f"/ann/digits/v2/{model}/infer"
    who = {
        "and_ids": {
            "ids": [
                _claim("aud", "ann/digits"),
                {"not_id": {"or_ids": {"ids": [_claim("jti", "k1"), _claim("jti", "k2")]}}},
            ]
        }
    }
    assert route_configuration([route])["resources"] == _document(
        [
            # One random number for all: the fractions are cumulative.
            *_inference(infer, "/v2/models/d-1/versions/4/infer", 4, who, 50),
            *_inference(infer, "/v2/models/d-2/versions/5/infer", 5, who, 80),
            *_inference(infer, "/v2/models/d-2/versions/6/infer", 6, who),
            _entry(
                "GET",
                f"/ann/digits/v2/(?:health(/ready)|{model}(/ready)?)",
                r"/v2/models/d-1/versions/4\1\2",
                4,
                who,
            ),
            _entry("GET", "/ann/digits(/v2(?:/health/live)?)", r"\1", 4, who),
        ]
    )


def test_a_version_without_traffic_gets_no_route() -> None:
    targets = [RouteTarget("d", 1, 0), RouteTarget("d", 2, 100)]
    route = Route("ann", "digits", targets, "ann/digits")
    text = to_text(route_configuration([route]))
    assert "versions/1" not in text
    nobody = Route("ann", "digits", [RouteTarget("d", 1, 0)], "ann/digits")
    assert route_configuration([nobody])["resources"] == _document([])


def test_the_version_of_the_routes_follows_their_content_only() -> None:
    a = Route("ann", "a", [RouteTarget("m", 1, 100)], "ann/a")
    b = Route("bob", "b", [RouteTarget("m", 1, 100)], "bob/b")
    assert route_configuration([a, b]) == route_configuration([b, a])
    revoked = Route("ann", "a", [RouteTarget("m", 1, 100)], "ann/a", ["k"])
    versions = {
        route_configuration(routes)["version_info"] for routes in ([a, b], [revoked, b], [a], [])
    }
    assert len(versions) == 4


@pytest.mark.parametrize(
    "owner", ["ann", "testuser<'&\">", "ä b", "a.b", "a+b@c", "(x)|(y)", "%2e", "..", "日本", "$&*"]
)
def test_an_owner_of_any_text_has_exactly_one_address(owner: str) -> None:
    pattern = re.compile(path_pattern(owner, "m.1"))
    quoted = quote(owner, safe="")
    assert pattern.fullmatch(f"/{quoted}/m.1")
    # What clients make of it that unquote what need not be quoted, or write small digits.
    assert pattern.fullmatch(f"/{quote(owner, safe=chr(39) + '!$&()*+,;=:@')}/m.1")
    assert pattern.fullmatch(f"/{re.sub('%..', lambda m: m[0].lower(), quoted)}/m.1")
    for other in ("bob", owner + "x", "x" + owner, owner[:-1], "a-b"):
        assert not pattern.fullmatch(f"/{quote(other, safe='')}/m.1")
    for path in (f"/{quoted}/m-1", f"/{quoted}/m.1/", f"//{quoted}/m.1", f"/{quoted}//m.1"):
        assert not pattern.fullmatch(path)


def test_the_bootstrap_holds_the_guards() -> None:
    config = bootstrap(
        port=1234,
        admin=Path("/h/admin"),
        triton=Path("/h/http"),
        routes=Path("/h/routes.json"),
        jwks={"keys": []},
    )
    assert config["admin"] == {"address": {"pipe": {"path": "/h/admin", "mode": 0o600}}}
    (listener,) = config["static_resources"]["listeners"]
    assert listener["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 1234}}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert [entry["name"].rpartition(".")[2] for entry in manager["http_filters"]] == [
        "jwt_authn",
        "rbac",
        "buffer",
        "router",
    ]
    authentication, denial, limit, _ = (entry["typed_config"] for entry in manager["http_filters"])
    assert authentication["rules"] == [
        {"match": {"prefix": "/"}, "requires": {"provider_name": "aiaas"}}
    ]
    assert authentication["providers"]["aiaas"] == {
        "issuer": "aiaas-hub",
        "local_jwks": {"inline_string": '{"keys": []}'},
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "require_expiration": True,
        "clock_skew_seconds": 5,
        "forward": False,
        "payload_in_metadata": "claims",
        "jwt_cache_config": {"jwt_cache_size": 1000},
    }
    assert denial["rules"] == {"action": "ALLOW", "policies": {}}
    assert limit["max_request_bytes"] == MAX_REQUEST_BYTES
    assert manager["normalize_path"] is True
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    (monitor,) = config["overload_manager"]["resource_monitors"]
    assert monitor["typed_config"]["max_active_downstream_connections"] == MAX_CONNECTIONS


def test_keys(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    keys = GatewayKeys(home)
    path = home.secret_file("gateway_key.pem")
    assert path.stat().st_mode & 0o777 == 0o600
    expires = datetime.now(UTC) + timedelta(minutes=10)
    token = keys.sign("ann/digits", "k1", "ann", expires)
    (public,) = GatewayKeys(home).jwks()["keys"]
    assert sorted(public) == ["alg", "crv", "kid", "kty", "use", "x", "y"]
    assert jwt.get_unverified_header(token) == {
        "alg": "ES256",
        "typ": "JWT",
        "kid": public["kid"],
    }
    key = jwt.PyJWK(public)
    claims = jwt.decode(token, key, algorithms=["ES256"], audience="ann/digits", issuer="aiaas-hub")
    assert claims == {
        "iss": "aiaas-hub",
        "aud": "ann/digits",
        "sub": "ann",
        "jti": "k1",
        "iat": claims["iat"],
        "exp": int(expires.timestamp()),
    }
    with pytest.raises(ValueError, match="time zone"):
        keys.sign("a/b", "k", "a", datetime(2030, 1, 1))
