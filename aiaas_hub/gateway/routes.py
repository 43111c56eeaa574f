"""The file of routes (RDS): everything that Envoy knows about endpoints.

Envoy reads it again whenever it is replaced, so that publishing and rolling back are one rename.
Before an endpoint's routes stands what refuses the keys of others. They rewrite exactly these
paths:

    GET   /{owner}/{endpoint}/v2                                      the server's metadata
    GET   /{owner}/{endpoint}/v2/health/live
    GET   /{owner}/{endpoint}/v2/health/ready                         is the version ready?
    GET   /{owner}/{endpoint}/v2/models/{any}[/versions/{any}]        metadata
    GET   /{owner}/{endpoint}/v2/models/{any}[/versions/{any}]/ready
    POST  /{owner}/{endpoint}/v2/models/{any}[/versions/{any}]/infer

and those of TensorFlow Serving's REST API and of OpenAI's, which a translator asks Triton for:

    POST  /{owner}/{endpoint}/v1/models/{any}[/versions/{number}]:predict
    GET   /{owner}/{endpoint}/v1/models/{any}[/versions/{number}][/metadata]
    POST  /{owner}/{endpoint}/v1[/chat]/completions
    GET   /{owner}/{endpoint}/v1/models

Whatever model and version a caller names in the path, the one that reaches Triton is written here,
with one version in it: that of the traffic's split, or the one in the header `x-aiaas-version` for
who may choose, which a key's scope says; there the number in the path is such a choice, too. So
callers cannot reach the repository, shared memory,
tracing or logging. An inference request may still *name* a shared memory region in its body; as
none can be registered through here, Triton refuses it.
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.gateway import sticky, waking
from aiaas_hub.gateway.clusters import cluster_name, translator_name
from aiaas_hub.gateway.files import RETRIES, headers_added, versioned
from aiaas_hub.gateway.guards import answered, rate_limits, refusals
from aiaas_hub.gateway.mirrors import mirror_policies
from aiaas_hub.gateway.names import (
    BUFFER,
    CHOICE_HEADER,
    CLAIMS,
    COMPLETIONS,
    FILTERS,
    INFER_SECONDS,
    METADATA,
    NAME_HEADER,
    ROUTES,
    SECONDS_HEADER,
    TYPE,
    VIRTUAL_HOST,
    inference_path,
    predict_path,
    statistics_name,
    version_path,
)

MAX_JSON_BYTES = 1 << 20
"""Of a request that is all JSON; tensors in binary may take `bootstrap.MAX_REQUEST_BYTES`."""
MAX_PREDICT_BYTES = 8 << 20
"""Of TensorFlow Serving's JSON, which a process of its own parses."""
_JSON_LENGTH = "inference-header-content-length"
# Some of TensorFlow Serving's clients quote the colon.
_PREDICT = "(?::|%3[Aa])predict"

# What a URL's path may hold unquoted besides the unreserved characters (RFC 3986, pchar). Some
# clients unquote these although `quote(owner, safe="")` had quoted them.
_BARE = "!$&'()*+,;=:@"
_UNRESERVED = string.ascii_letters + string.digits + "-._~"


def route_configuration(
    routes: Sequence[Route],
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What the routes file holds; `version_info` names the content. `headers` go to Triton with
    each request, and no caller's own of these names; Envoy's formatters are filled in."""
    ordered = sorted(routes, key=lambda route: (route.owner, route.endpoint))
    content: dict[str, Any] = {
        "@type": f"{TYPE}envoy.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "virtual_hosts": [
            {
                "name": VIRTUAL_HOST,
                "domains": ["*"],
                "retry_policy": RETRIES,
                # Triton inflates what is compressed without a limit, so nothing is.
                "request_headers_to_remove": ["cookie", "content-encoding", *CLAIMS.values()],
                **_lookup(ordered),
                **rate_limits(
                    {jti: rate for route in ordered for jti, rate in route.rates.items()}
                ),
            }
        ],
    }
    if headers:
        content["request_headers_to_add"] = headers_added(headers)
    return versioned([content])


def _lookup(routes: Sequence[Route]) -> dict[str, Any]:
    """The endpoints' routes, found by the beginning of a path. Envoy tries a list one by one, and
    with thousands of patterns that is most of a request's time: so it gets a tree of short lists.
    """
    by_beginning: dict[str, list[dict[str, Any]]] = defaultdict(list)
    by_callers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for route in routes:
        beginning = _beginning(route.owner, route.endpoint)
        entries = _entries(route)
        if entries and not route.asleep and sticky.is_sticky(route):
            address = sticky.by_path(path_pattern(route.owner, route.endpoint))
            callers = sticky.by_caller(route, lambda alone: _list_of(_entries(alone)))
            by_callers[beginning].append({"predicate": address, "on_match": callers})
            entries = []
        by_beginning[beginning] += entries
    beginnings = {
        one: sticky.first_of(by_callers[one], _list_of(entries))
        for one, entries in by_beginning.items()
        if entries or by_callers[one]
    }
    if not beginnings:
        return {"routes": [_nothing_else()]}
    path = {"@type": f"{TYPE}envoy.type.matcher.v3.HttpRequestHeaderMatchInput"}
    return {
        "matcher": {
            "matcher_tree": {
                "input": {"name": "path", "typed_config": {**path, "header_name": ":path"}},
                "prefix_match_map": {"map": beginnings},
            },
            "on_no_match": _list_of([]),
        }
    }


def _beginning(owner: str, endpoint: str) -> str:
    """What all spellings of an endpoint's address begin with, as far as there is one spelling.

    The longest one that a path begins with is its own endpoint's: it ends before a character that
    is quoted or in quotes' stead, and no other address's beginning has any such character.
    """
    special = owner.lstrip(_UNRESERVED)
    return f"/{owner.removesuffix(special)}" if special else f"/{owner}/{endpoint}/"


def _address(owner: str, endpoint: str) -> dict[str, Any]:
    """Matches what lies below an endpoint's address, in any spelling."""
    if not owner.lstrip(_UNRESERVED):
        return {"prefix": _beginning(owner, endpoint)}
    return {"safe_regex": {"regex": f"{path_pattern(owner, endpoint)}/.*"}}


def _list_of(entries: list[dict[str, Any]]) -> dict[str, Any]:
    routes = {"@type": f"{TYPE}envoy.config.route.v3.RouteList"}
    entries = [*entries, _nothing_else()]
    return {"action": {"name": "routes", "typed_config": {**routes, "routes": entries}}}


def path_pattern(owner: str, endpoint: str) -> str:
    """RE2 for `/{owner}/{endpoint}` as `quote(…, safe="")` writes it, and for nothing that
    another owner's or endpoint's address could be."""
    return f"/{_segment(owner)}/{_segment(endpoint)}"


def _segment(text: str) -> str:
    pattern = ""
    for character in text:
        if character in _UNRESERVED:
            pattern += re.escape(character)
            continue
        # Hexadecimal digits have two cases; Python writes capitals.
        quoted = re.sub("[A-F]", lambda m: f"[{m[0]}{m[0].lower()}]", quote(character, safe=""))
        pattern += f"(?:{quoted}|{re.escape(character)})" if character in _BARE else quoted
    return pattern


def _entries(route: Route) -> list[dict[str, Any]]:
    base = path_pattern(route.owner, route.endpoint)
    cluster = cluster_name(route.owner)
    targets = [target for target in route.targets if target.percent > 0]
    if not targets:
        return []
    # What is asked about an endpoint is answered by the version that most requests go to.
    main = max(targets, key=lambda target: target.percent)
    by_number = {"safe_regex": {"regex": f"{base}/v1/models/[^/:]+/versions/[^/:]+{_PREDICT}"}}
    refused = refusals(route, _address(route.owner, route.endpoint), by_number)
    # Of the server, whatever it has loaded.
    server = _entry("GET", f"{base}(/v2(?:/health/live)?)", r"\1", cluster, main)
    if route.asleep:
        return [*refused, server, *waking.entries(base)]
    pinned = f"/v2/models/{main.model}/versions/{main.version}"
    entries = refused
    for target in route.targets:
        entries += _chosen(_infer(base, cluster, target), target)
    entries += _shared_out(route, targets, lambda to: _infer(base, cluster, to))
    entries += _predictions(route, targets, main)
    entries += _completions(route, targets, main)
    about = f"{base}/v2/(?:health(/ready)|models/[^/]+(?:/versions/[^/]+)?(/ready)?)"
    model = _entry("GET", about, rf"{pinned}\1\2", cluster, main)
    return [*entries, model, server]


def _chosen(entries: list[dict[str, Any]], target: RouteTarget) -> list[dict[str, Any]]:
    """An exact version, whether it has a share or not. Not in the version's statistics, which tell
    what its share of the callers met."""
    for entry in entries:
        chosen = {"name": CHOICE_HEADER, "string_match": {"exact": str(target.version)}}
        entry["match"]["headers"].append(chosen)
    return entries


def _predictions(
    route: Route, targets: Sequence[RouteTarget], main: RouteTarget
) -> list[dict[str, Any]]:
    """TensorFlow Serving's paths."""
    models = f"{path_pattern(route.owner, route.endpoint)}/v1/models/[^/:]+"
    cluster = translator_name(route.owner)

    def predict(pattern: str, target: RouteTarget) -> dict[str, Any]:
        entry = _entry("POST", f"{pattern}{_PREDICT}", predict_path(target), cluster, target)
        return _with_limit(entry, MAX_PREDICT_BYTES)

    by_number = [predict(f"{models}/versions/{to.version}", to) for to in route.targets]
    by_header = [entry for to in route.targets for entry in _chosen([predict(models, to)], to)]
    shared = _shared_out(route, targets, lambda to: [predict(models, to)])
    asked = [
        *(_about(route, f"{models}/versions/{to.version}", to) for to in route.targets),
        _about(route, models, main),
    ]
    return [*by_number, *by_header, *shared, *asked]


def _about(route: Route, model: str, target: RouteTarget) -> dict[str, Any]:
    """A version's status and metadata, under the endpoint's own name."""
    path = version_path(target)
    cluster = translator_name(route.owner)
    entry = _entry("GET", f"{model}(/metadata)?", rf"{path}\1", cluster, target)
    return _with_headers(entry, {NAME_HEADER: route.endpoint})


def _completions(
    route: Route, targets: Sequence[RouteTarget], main: RouteTarget
) -> list[dict[str, Any]]:
    """OpenAI's paths. A text ends before the gateway would end its request: so the time is told."""
    base = f"{path_pattern(route.owner, route.endpoint)}/v1"
    cluster = translator_name(route.owner)

    def complete(target: RouteTarget) -> list[dict[str, Any]]:
        pattern, to = f"{base}/({'|'.join(COMPLETIONS)})", rf"{version_path(target)}/\1"
        entry = _with_limit(_entry("POST", pattern, to, cluster, target), MAX_JSON_BYTES)
        told = {NAME_HEADER: route.endpoint, SECONDS_HEADER: f"{_seconds(target):g}"}
        return [_with_headers(entry, told)]

    listed = f"{version_path(main)}/listed"
    models = _entry("GET", f"{base}/models", listed, cluster, main)
    return [
        *(entry for to in route.targets for entry in _chosen(complete(to), to)),
        *_shared_out(route, targets, complete),
        _with_headers(models, {NAME_HEADER: route.endpoint}),
    ]


def _shared_out(
    route: Route,
    targets: Sequence[RouteTarget],
    entries_of: Callable[[RouteTarget], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """A version's share each, of all callers who do not name one."""
    found, share = [], 0
    for target in targets:
        share += target.percent
        found += _split(route, entries_of(target), target, share)
    return found


def _split(
    route: Route, entries: list[dict[str, Any]], target: RouteTarget, share: int
) -> list[dict[str, Any]]:
    for entry in entries:
        entry["route"] |= mirror_policies(route)
        entry["stat_prefix"] = statistics_name(target)
        # A version that is not there must not become another one.
        entry["match"]["headers"].append({"name": CHOICE_HEADER, "present_match": False})
        if share < 100:
            # Envoy draws one number per request and compares it on every route, so the fractions
            # are cumulative: 50, 80 and the rest make 50, 30 and 20 percent.
            entry["match"]["runtime_fraction"] = {
                "default_value": {"numerator": share, "denominator": "HUNDRED"}
            }
    return entries


def _infer(base: str, cluster: str, target: RouteTarget) -> list[dict[str, Any]]:
    """Two routes: binary tensors behind a short JSON header, and requests that are all JSON, which
    Triton parses recursively and so are bounded."""
    pinned = inference_path(target)
    pattern = f"{base}/v2/models/[^/]+(?:/versions/[^/]+)?/infer"
    binary = _entry("POST", pattern, pinned, cluster, target)
    binary["match"]["headers"].append(
        {"name": _JSON_LENGTH, "string_match": {"safe_regex": {"regex": "[0-9]{1,6}"}}}
    )
    plain = _entry("POST", pattern, pinned, cluster, target)
    plain["match"]["headers"].append({"name": _JSON_LENGTH, "present_match": False})
    return [binary, _with_limit(plain, MAX_JSON_BYTES)]


def _with_limit(entry: dict[str, Any], most: int) -> dict[str, Any]:
    """The same for bodies of at most so many bytes."""
    limit = {
        "@type": f"{FILTERS}.buffer.v3.BufferPerRoute",
        "buffer": {"max_request_bytes": most},
    }
    entry["typed_per_filter_config"] = {BUFFER: limit}
    return entry


def _with_headers(entry: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """The same with these for the translator, whatever a caller says."""
    entry["request_headers_to_add"] = headers_added(headers)
    return entry


def _seconds(target: RouteTarget) -> float:
    return target.timeout_seconds or INFER_SECONDS


def _entry(
    method: str,
    pattern: str,
    rewritten: str,
    cluster: str,
    target: RouteTarget,
) -> dict[str, Any]:
    return {
        "match": {
            "safe_regex": {"regex": pattern},
            "headers": [{"name": ":method", "string_match": {"exact": method}}],
        },
        "route": {
            "cluster": cluster,
            "timeout": f"{_seconds(target):g}s",
            "regex_rewrite": {
                # What has matched is replaced whole: a long pattern costs time to compile.
                "pattern": {"regex": f"^{pattern}$" if "\\" in rewritten else "^.*"},
                "substitution": rewritten,
            },
        },
        "request_headers_to_remove": ["authorization"],
        "metadata": {"filter_metadata": {METADATA: {"version": str(target.version)}}},
    }


def _nothing_else() -> dict[str, Any]:
    return {"match": {"prefix": "/"}, **answered(404)}
