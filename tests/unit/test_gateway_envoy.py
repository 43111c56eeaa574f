"""Envoy's configuration, compared whole."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from aiaas_hub.domain.ports import Route, RouteTarget, VersionTraffic
from aiaas_hub.gateway import statistics
from aiaas_hub.gateway.bootstrap import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    bootstrap,
)
from aiaas_hub.gateway.clusters import (
    cluster_configuration,
    cluster_name,
    mirror_name,
    shadow_name,
    translator_name,
)
from aiaas_hub.gateway.files import to_text
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.gateway.mirrors import mirror_configuration
from aiaas_hub.gateway.routes import path_pattern, route_configuration
from aiaas_hub.home import Home

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
UNREAD = {
    "envoy.filters.http.buffer": {
        "@type": f"{FILTERS}.buffer.v3.BufferPerRoute",
        "disabled": True,
    }
}
NOTHING_ELSE = {
    "match": {"prefix": "/"},
    "direct_response": {"status": 404},
    "typed_per_filter_config": UNREAD,
}
HOST = {
    "name": "gateway",
    "domains": ["*"],
    "retry_policy": {"retry_on": "connect-failure,reset-before-request", "num_retries": 2},
    "request_headers_to_remove": [
        *("cookie", "content-encoding", "x-aiaas-audience", "x-aiaas-key", "x-aiaas-scope"),
    ],
}


def _refusals(*revoked: str) -> list[dict[str, Any]]:
    """What stands before the routes of ann's digits."""

    def refusal(path: dict[str, Any], *headers: dict[str, Any]) -> dict[str, Any]:
        match = {**path, "headers": list(headers)}
        return {
            "match": match,
            "direct_response": {"status": 403},
            "typed_per_filter_config": UNREAD,
        }

    def claims_not(claim: str, value: str) -> dict[str, Any]:
        found = {"name": f"x-aiaas-{claim}", "string_match": {"exact": value}}
        return {**found, "invert_match": True, "treat_missing_header_as_empty": True}

    below = {"prefix": "/ann/digits/"}
    number = "/ann/digits/v1/models/[^/:]+/versions/[^/:]+(?::|%3[Aa])predict"
    post = {"name": ":method", "string_match": {"exact": "POST"}}
    metadata = {"name": "x-aiaas-scope", "string_match": {"exact": "metadata"}}
    chooses = {"name": "x-aiaas-version", "present_match": True}
    found = [
        refusal(below, claims_not("audience", "ann/digits")),
        refusal(below, post, metadata),
        refusal(below, post, chooses, claims_not("scope", "versions")),
        refusal({"safe_regex": {"regex": number}}, post, claims_not("scope", "versions")),
    ]
    if revoked:
        regex = {"safe_regex": {"regex": "|".join(revoked)}}
        found.append(refusal(below, {"name": "x-aiaas-key", "string_match": regex}))
    return found


def _entry(
    method: str,
    pattern: str,
    rewritten: str,
    version: int,
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
            "cluster": cluster_name("ann"),
            "timeout": "120s",
            "regex_rewrite": {
                "pattern": {"regex": f"^{pattern}$" if "\\" in rewritten else "^.*"},
                "substitution": rewritten,
            },
        },
        "request_headers_to_remove": ["authorization"],
        "metadata": {"filter_metadata": {"aiaas": {"version": str(version)}}},
    }


def _limit(most: int) -> dict[str, Any]:
    return {
        "envoy.filters.http.buffer": {
            "@type": f"{FILTERS}.buffer.v3.BufferPerRoute",
            "buffer": {"max_request_bytes": most},
        }
    }


def _inference(
    pattern: str,
    rewritten: str,
    version: int,
    fraction: int | None = None,
    *,
    statistics: str | None = None,
) -> list[dict[str, Any]]:
    """Tensors in binary behind a short header, and JSON within a megabyte; by its share, which
    has statistics, or by its exact version."""
    binary: dict[str, Any] = _entry("POST", pattern, rewritten, version, fraction)
    plain: dict[str, Any] = _entry("POST", pattern, rewritten, version, fraction)
    length = {"name": "inference-header-content-length"}
    short = {"safe_regex": {"regex": "[0-9]{1,6}"}}
    binary["match"]["headers"].append({**length, "string_match": short})
    plain["match"]["headers"].append({**length, "present_match": False})
    plain["typed_per_filter_config"] = _limit(1 << 20)
    chosen: dict[str, Any] = {"name": "x-aiaas-version"}
    for entry in (binary, plain):
        if statistics is None:
            entry["match"]["headers"].append({**chosen, "string_match": {"exact": str(version)}})
        else:
            entry["match"]["headers"].append({**chosen, "present_match": False})
            entry["stat_prefix"] = statistics
    return [binary, plain]


def _predictions() -> list[dict[str, Any]]:
    """TensorFlow Serving's paths of the versions 4, 5 and 6, which share 50, 30 and 20 percent: by
    the number in the path, by the header, by the share; and what is asked about them."""
    models = "/ann/digits/v1/models/[^/:]+"
    verb = "(?::|%3[Aa])predict"
    found = []
    for how in ("path", "header", "share"):
        for model, version, share in (("d-1", 4, 50), ("d-2", 5, 80), ("d-2", 6, None)):
            entry: dict[str, Any] = _entry(
                "POST",
                f"{models}/versions/{version}{verb}" if how == "path" else f"{models}{verb}",
                f"/v1/models/{model}/versions/{version}:predict",
                version,
                share if how == "share" else None,
            )
            entry["route"]["cluster"] = translator_name("ann")
            entry["typed_per_filter_config"] = _limit(8 << 20)
            chosen: dict[str, Any] = {"name": "x-aiaas-version"}
            if how == "header":
                chosen["string_match"] = {"exact": str(version)}
                entry["match"]["headers"].append(chosen)
            elif how == "share":
                entry["match"]["headers"].append({**chosen, "present_match": False})
                entry["stat_prefix"] = f"{model}-v{version}"
            found.append(entry)
    for model, version, path in (
        ("d-1", 4, "/versions/4"),
        ("d-2", 5, "/versions/5"),
        ("d-2", 6, "/versions/6"),
        ("d-1", 4, ""),
    ):
        about = rf"/v1/models/{model}/versions/{version}\1"
        asked: dict[str, Any] = _entry("GET", f"{models}{path}(/metadata)?", about, version)
        asked["route"]["cluster"] = translator_name("ann")
        asked["request_headers_to_add"] = [
            {
                "header": {"key": "x-aiaas-endpoint", "value": "digits"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
        found.append(asked)
    return found


def _completions() -> list[dict[str, Any]]:
    """OpenAI's paths of the same versions: by the header, by the share, and the endpoint's name."""

    def told(entry: dict[str, Any], **headers: str) -> dict[str, Any]:
        entry["route"]["cluster"] = translator_name("ann")
        entry["request_headers_to_add"] = [
            {
                "header": {"key": f"x-aiaas-{key}", "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for key, value in headers.items()
        ]
        return entry

    found = []
    for is_chosen in (True, False):
        for model, version, share in (("d-1", 4, 50), ("d-2", 5, 80), ("d-2", 6, None)):
            entry: dict[str, Any] = _entry(
                "POST",
                "/ann/digits/v1/(completions|chat/completions)",
                rf"/v1/models/{model}/versions/{version}/\1",
                version,
                None if is_chosen else share,
            )
            entry["typed_per_filter_config"] = _limit(1 << 20)
            chosen: dict[str, Any] = {"name": "x-aiaas-version", "present_match": False}
            if is_chosen:
                chosen = {"name": "x-aiaas-version", "string_match": {"exact": str(version)}}
            else:
                entry["stat_prefix"] = f"{model}-v{version}"
            entry["match"]["headers"].append(chosen)
            found.append(told(entry, endpoint="digits", seconds="120"))
    listed: dict[str, Any] = _entry(
        "GET", "/ann/digits/v1/models", "/v1/models/d-1/versions/4/listed", 4
    )
    return [*found, told(listed, endpoint="digits")]


def _list(entries: list[dict[str, object]]) -> dict[str, object]:
    routes = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteList",
        "routes": [*entries, NOTHING_ELSE],
    }
    return {"action": {"name": "routes", "typed_config": routes}}


def _document(entries: list[dict[str, object]]) -> list[dict[str, object]]:
    """Of ann's digits, or of no endpoint."""
    path = {
        "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
        "header_name": ":path",
    }
    matcher = {
        "matcher_tree": {
            "input": {"name": "path", "typed_config": path},
            "prefix_match_map": {"map": {"/ann/digits/": _list(entries)}},
        },
        "on_no_match": _list([]),
    }
    lookup: dict[str, object] = {"matcher": matcher} if entries else {"routes": [NOTHING_ELSE]}
    return [
        {
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": "endpoints",
            "virtual_hosts": [{**HOST, **lookup}],
        }
    ]


def _lists(routes: list[Route]) -> dict[str, list[dict[str, Any]]]:
    """Beginning of a path → the routes tried there."""
    (document,) = route_configuration(routes)["resources"]
    tree = document["virtual_hosts"][0]["matcher"]["matcher_tree"]["prefix_match_map"]["map"]
    return {one: found["action"]["typed_config"]["routes"] for one, found in tree.items()}


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
    first, second, third = (
        "/v2/models/d-1/versions/4/infer",
        "/v2/models/d-2/versions/5/infer",
        "/v2/models/d-2/versions/6/infer",
    )
    assert route_configuration([route])["resources"] == _document(
        [
            *_refusals("k1", "k2"),
            *_inference(infer, first, 4),
            *_inference(infer, second, 5),
            *_inference(infer, third, 6),
            # One random number for all: the fractions are cumulative.
            *_inference(infer, first, 4, 50, statistics="d-1-v4"),
            *_inference(infer, second, 5, 80, statistics="d-2-v5"),
            *_inference(infer, third, 6, statistics="d-2-v6"),
            *_predictions(),
            *_completions(),
            _entry(
                "GET",
                f"/ann/digits/v2/(?:health(/ready)|{model}(/ready)?)",
                r"/v2/models/d-1/versions/4\1\2",
                4,
            ),
            _entry("GET", "/ann/digits(/v2(?:/health/live)?)", r"\1", 4),
        ]
    )


def test_a_version_without_traffic_is_reached_by_its_number_only() -> None:
    targets = [RouteTarget("d", 1, 0), RouteTarget("d", 2, 100)]
    route = Route("ann", "digits", targets, "ann/digits")
    for entry in _lists([route])["/ann/digits/"]:
        if "versions/1" in to_text(entry):
            by_header = {"name": "x-aiaas-version", "string_match": {"exact": "1"}}
            by_path = "v1/models/[^/:]+/versions/1(" in entry["match"]["safe_regex"]["regex"]
            assert by_header in entry["match"]["headers"] or by_path
    nobody = Route("ann", "digits", [RouteTarget("d", 1, 0)], "ann/digits")
    assert route_configuration([nobody])["resources"] == _document([])


OWNERS = [
    "ann",
    "ann@corp",
    "anna",
    "an",
    "a",
    "ann%40corp",
    "@",
    "王芳",
    "ann b",
    "v2",
    "Ann",
    "ann.",
]


def _matches(entry: dict[str, Any], path: str) -> bool:
    match = entry["match"]
    if "prefix" in match:
        return path.startswith(match["prefix"])
    return re.fullmatch(match["safe_regex"]["regex"], path) is not None


@pytest.mark.parametrize("owner", OWNERS)
def test_a_path_begins_with_its_own_endpoints_list(owner: str) -> None:
    """However it is spelled: the longest beginning is the one that has its routes."""
    routes = [
        Route(each, endpoint, [RouteTarget("m", 1, 100)], f"{each}/{endpoint}")
        for each in OWNERS
        for endpoint in ("digits", "d", "v2")
    ]
    lists = _lists(routes)
    quoted = quote(owner, safe="")
    lower = re.sub("%..", lambda found: found[0].lower(), quoted)
    for spelled in {quoted, lower, *([owner] if owner.startswith(("@", "ann@")) else [])}:
        for endpoint in ("digits", "d", "v2"):
            path = f"/{spelled}/{endpoint}/v2/models/m/infer"
            longest = max((one for one in lists if path.startswith(one)), key=len)
            # Before all others that it could match: the refusal of keys that are not for it.
            first = next(entry for entry in lists[longest] if _matches(entry, path))
            assert first["direct_response"] == {"status": 403}
            (who,) = first["match"]["headers"]
            assert who["name"] == "x-aiaas-audience"
            assert who["string_match"] == {"exact": f"{owner}/{endpoint}"}
            assert who["invert_match"]
            assert any(_matches(entry, path) for entry in lists[longest] if "route" in entry), path


def test_a_sticky_endpoint_has_a_list_for_each_version_and_a_hash_that_chooses() -> None:
    targets = [RouteTarget("d", 1, 70), RouteTarget("d", 2, 0), RouteTarget("d", 3, 30)]
    route = Route("ann", "digits", targets, "ann/digits", sticky=True)
    (document,) = route_configuration([route])["resources"]
    tree = document["virtual_hosts"][0]["matcher"]["matcher_tree"]["prefix_match_map"]["map"]
    (below,) = tree["/ann/digits/"]["matcher"]["matcher_list"]["matchers"]
    assert below["predicate"]["single_predicate"]["value_match"] == {
        "safe_regex": {"google_re2": {}, "regex": "/ann/digits/.*"}
    }
    # What is no sticky endpoint's address has nothing here.
    assert tree["/ann/digits/"]["matcher"]["on_no_match"] == _list([])
    (named,) = below["on_match"]["matcher"]["matcher_list"]["matchers"]
    keyed = below["on_match"]["matcher"]["on_no_match"]
    alone = [
        _lists(
            [
                Route(
                    "ann",
                    "digits",
                    [RouteTarget("d", v, 100 * (v == of)) for v in (1, 2, 3)],
                    "ann/digits",
                )
            ]
        )["/ann/digits/"]
        for of in (1, 3)
    ]
    for branch, header in ((named["on_match"], "x-aiaas-sticky"), (keyed, "authorization")):
        (newest,) = branch["matcher"]["matcher_list"]["matchers"]
        found = newest["predicate"]["single_predicate"]
        assert found["input"]["typed_config"]["header_name"] == header
        hashing = found["custom_match"]["typed_config"]
        assert (hashing["threshold"], hashing["modulo"]) == (70, 100)
        for one, wanted in ((branch["matcher"]["on_no_match"], 0), (newest["on_match"], 1)):
            assert one["action"]["typed_config"]["routes"] == alone[wanted]
    # One version that has all, and an endpoint beside it, are as they were.
    whole = Route("ann", "digits", [RouteTarget("d", 1, 100)], "ann/digits", sticky=True)
    assert _lists([whole])["/ann/digits/"][0]["match"]["headers"]


def test_the_callers_of_an_endpoint_that_sleeps_go_to_who_wakes_it() -> None:
    targets = [RouteTarget("d", 1, 70), RouteTarget("d", 2, 30)]
    route = Route("ann", "digits", targets, "ann/digits", revoked=("k1",), sticky=True, asleep=True)
    awake = Route("ann", "other", [RouteTarget("o", 1, 100)], "ann/other")
    lists = _lists([route, awake])
    refusals = _refusals("k1")
    assert lists["/ann/digits/"][: len(refusals)] == refusals
    server, *entries, nothing = lists["/ann/digits/"][len(refusals) :]
    # It is Triton's, which lives whatever it has loaded.
    assert server["match"]["safe_regex"]["regex"] == "/ann/digits(/v2(?:/health/live)?)"
    assert server["route"]["cluster"].startswith("triton-")
    assert [
        (
            entry["match"]["safe_regex"]["regex"],
            entry["match"]["headers"][0]["string_match"]["exact"],
        )
        for entry in entries
    ] == [("/ann/digits/v[12]/.+", "POST"), ("/ann/digits/v[12]/.+", "GET")]
    for entry in entries:
        assert entry["route"] == {
            "cluster": "waker",
            "timeout": "120s",
            "internal_redirect_policy": {
                "max_internal_redirects": 1,
                "redirect_response_codes": [307],
            },
        }
        # It is checked again, with the key that it came with; see `waking` about headers.
        assert not {"request_headers_to_remove", "request_headers_to_add"} & entry.keys()
    assert nothing["direct_response"] == {"status": 404}
    assert lists["/ann/other/"] == _lists([awake])["/ann/other/"]


def test_the_list_of_an_endpoint_is_short_however_many_there_are() -> None:
    routes = [
        Route(f"user{n}@corp", "digits", [RouteTarget("m", 1, 100)], f"user{n}@corp/digits")
        for n in range(300)
    ]
    assert max(len(entries) for entries in _lists(routes).values()) < 20


def test_a_key_with_a_rate_has_one_bucket_for_all_routes() -> None:
    targets = [RouteTarget("d", 1, 50), RouteTarget("d", 2, 50)]
    routes = [
        Route("ann", "digits", targets, "ann/digits", rates={"k2": 5}),
        Route("bob", "digits", targets, "bob/digits", rates={"k1": 7}),
    ]
    text = to_text(route_configuration(routes))
    (document,) = route_configuration(routes)["resources"]
    (host,) = document["virtual_hosts"]
    limits = host["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]
    assert limits["descriptors"] == [
        {
            "entries": [{"key": "jti", "value": key}],
            "token_bucket": {"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": "1s"},
        }
        for key, rate in (("k1", 7), ("k2", 5))
    ]
    assert text.count("descriptors") == 1


def test_each_owner_has_a_way_of_their_own(tmp_path: Path) -> None:
    mirror, translator = tmp_path / "mirror", tmp_path / "translator"
    ways_of = partial(cluster_configuration, translator=translator, mirror=mirror)
    document = ways_of(["bob", "ann", "ann"], tmp_path / "http", 10)
    names = [cluster["name"] for cluster in document["resources"]]
    each = [name(owner) for owner in ("ann", "bob") for name in (cluster_name, translator_name)]
    assert names == sorted(each)
    (threshold,) = document["resources"][0]["circuit_breakers"]["thresholds"]
    assert threshold == {"max_connections": 10, "max_pending_requests": 20, "max_requests": 30}
    assert ways_of([], tmp_path, 10)["resources"] == []
    with_shadow = ways_of(["bob", "ann"], tmp_path / "http", 10, shadowed=["ann"])
    ways = {
        cluster["name"]: cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        for cluster in with_shadow["resources"]
    }
    assert len(ways) == len(with_shadow["resources"]) == 7
    assert ways == {
        cluster_name("ann"): {"address": {"pipe": {"path": str(tmp_path / "http")}}},
        cluster_name("bob"): {"address": {"pipe": {"path": str(tmp_path / "http")}}},
        translator_name("ann"): {"address": {"pipe": {"path": str(translator)}}},
        translator_name("bob"): {"address": {"pipe": {"path": str(translator)}}},
        translator_name("ann", shadow=True): {"address": {"pipe": {"path": str(translator)}}},
        mirror_name("ann"): {"address": {"pipe": {"path": str(mirror)}}},
        shadow_name("ann"): {"address": {"pipe": {"path": str(tmp_path / "http")}}},
    }


def test_what_is_shared_out_is_copied_to_a_shadow() -> None:
    targets = [RouteTarget("d", 1, 60), RouteTarget("d", 2, 40), RouteTarget("e", 3, 0)]
    shadow = RouteTarget("e", 3, 25, timeout_seconds=2.5)
    route = Route("ann", "digits", targets, "ann/digits", shadow=shadow)
    copied = [e for e in _lists([route])["/ann/digits/"] if "request_mirror_policies" in to_text(e)]
    # Two versions, each by tensors in binary, by JSON, by TensorFlow Serving's and by OpenAI's;
    # nothing by an exact version.
    assert [entry["stat_prefix"] for entry in copied] == [
        *["d-v1", "d-v1", "d-v2", "d-v2"],
        *["d-v1", "d-v2"],
        *["d-v1", "d-v2"],
    ]
    assert copied[0]["route"]["request_mirror_policies"] == [
        {
            "cluster": mirror_name("ann"),
            "runtime_fraction": {"default_value": {"numerator": 25, "denominator": "HUNDRED"}},
            "disable_shadow_host_suffix_append": True,
        }
    ]
    (mirrors,) = mirror_configuration([route])["resources"]
    assert mirrors["name"] == "mirrors"
    (host,) = mirrors["virtual_hosts"]
    assert host == {
        "name": "gateway",
        "domains": ["*"],
        "routes": [
            {
                "match": {"path": f"{path}/models/d/versions/{version}{verb}"},
                "stat_prefix": "e-v3",
                "route": {
                    "cluster": cluster,
                    "timeout": "2.5s",
                    "prefix_rewrite": f"{path}/models/e/versions/3{verb}",
                    "retry_policy": {
                        "retry_on": "connect-failure,reset-before-request",
                        "num_retries": 2,
                    },
                },
            }
            for version in (1, 2)
            for path, verb, cluster in (
                ("/v2", "/infer", shadow_name("ann")),
                ("/v1", ":predict", translator_name("ann", shadow=True)),
                ("/v1", "/completions", translator_name("ann", shadow=True)),
                ("/v1", "/chat/completions", translator_name("ann", shadow=True)),
            )
        ],
    }
    plain = Route("bob", "digits", targets, "bob/digits")
    assert mirror_configuration([plain])["resources"][0]["virtual_hosts"][0]["routes"] == []


def test_statistics_are_read_per_version() -> None:
    name = "vhost.gateway.route.m-1-v3"
    bucket = {"upper_bound": 0.5, "interval": 2, "cumulative": 2}
    stats = [
        {"name": f"{name}.upstream_rq_completed", "value": 9},
        {"name": f"{name}.upstream_rq_5xx", "value": 2},
        {"name": f"{name}.upstream_rq_4xx", "value": 1},
        {"histograms": [{"name": f"{name}.upstream_rq_time", "buckets": [bucket]}]},
    ]
    read = statistics.read(json.dumps({"stats": stats}).encode())
    assert read == {("m-1", 3): VersionTraffic(9, 2, 1, {0.5: 2})}
    with pytest.raises(ValueError, match="Expecting value"):
        statistics.read(b"<html>")


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
        clusters=Path("/h/clusters.json"),
        routes=Path("/h/routes.json"),
        mirror=Path("/h/mirror"),
        mirrors=Path("/h/mirrors.json"),
        jwks={"keys": []},
    )
    assert config["admin"] == {"address": {"pipe": {"path": "/h/admin", "mode": 0o600}}}
    listener, mirror = config["static_resources"]["listeners"]
    # Without a key's check, so never on a port.
    assert mirror["address"] == {"pipe": {"path": "/h/mirror", "mode": 0o600}}
    assert listener["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 1234}}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert [entry["name"].rpartition(".")[2] for entry in manager["http_filters"]] == [
        "jwt_authn",
        "local_ratelimit",
        "buffer",
        "router",
    ]
    authentication, rates, limit, _ = (entry["typed_config"] for entry in manager["http_filters"])
    (early,) = manager["early_header_mutation_extensions"]
    assert early["typed_config"]["mutations"] == [
        {"remove": f"x-aiaas-{claim}"} for claim in ("audience", "key", "scope")
    ]
    assert "token_bucket" not in rates
    assert authentication["rules"] == [
        {"match": {"prefix": "/"}, "requires": {"provider_name": "aiaas"}}
    ]
    assert authentication["providers"]["aiaas"] == {
        "issuer": "aiaas-hub",
        "local_jwks": {"inline_string": '{"keys": []}'},
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "require_expiration": True,
        "clock_skew_seconds": 5,
        "forward": True,
        "claim_to_headers": [
            {"claim_name": "aud", "header_name": "x-aiaas-audience"},
            {"claim_name": "jti", "header_name": "x-aiaas-key"},
            {"claim_name": "scope", "header_name": "x-aiaas-scope"},
        ],
        "clear_route_cache": True,
        "jwt_cache_config": {"jwt_cache_size": 1000},
    }
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
        "scope": "infer",
        "jti": "k1",
        "iat": claims["iat"],
        "exp": int(expires.timestamp()),
    }
    with pytest.raises(ValueError, match="time zone"):
        keys.sign("a/b", "k", "a", datetime(2030, 1, 1))
