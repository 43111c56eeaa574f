"""The same caller, the same version: shares of a hash instead of shares of a random number.

Envoy draws by weight among clusters with a hash, too, but a version is a path of one cluster here.
So the endpoint's routes are chosen by a matcher of consistent hashing, over the header
`x-aiaas-sticky` where a caller sends it and over the key where not: a caller stays with a version
for as long as the shares are what they are, and when a share grows nobody is moved away from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.gateway.names import TYPE

STICKY_HEADER = "x-aiaas-sticky"

OnMatch = dict[str, Any]


def is_sticky(route: Route) -> bool:
    return route.sticky and len(_shared(route)) > 1


def by_path(pattern: str) -> dict[str, Any]:
    """Predicate for what lies below an endpoint's address."""
    return _fits(":path", f"{pattern}/.*")


def by_caller(route: Route, routes: Callable[[Route], OnMatch]) -> OnMatch:
    """`routes` of the version that the caller belongs to, as if it had all the requests."""
    named, keyed = (_by_hash(route, header, routes) for header in (STICKY_HEADER, "authorization"))
    return _matcher([{"predicate": _fits(STICKY_HEADER, ".+"), "on_match": named}], keyed)


def _by_hash(route: Route, header: str, routes: Callable[[Route], OnMatch]) -> OnMatch:
    """The newest versions first: a matcher of this kind is met by hashes from its threshold on."""
    matchers, threshold = [], 100
    first, *newer = sorted(_shared(route), key=lambda target: target.version)
    for target in reversed(newer):
        threshold -= target.percent
        hashing = {
            "@type": f"{TYPE}envoy.extensions.matching.input_matchers.consistent_hashing.v3"
            ".ConsistentHashing",
            "threshold": threshold,
            "modulo": 100,
            "seed": _seed(route),
        }
        predicate = {
            "single_predicate": {
                "input": _header(header),
                "custom_match": {"name": "hash", "typed_config": hashing},
            }
        }
        matchers.append({"predicate": predicate, "on_match": routes(_alone(route, target))})
    return _matcher(matchers, routes(_alone(route, first)))


def _shared(route: Route) -> Sequence[RouteTarget]:
    return [target for target in route.targets if target.percent > 0]


def _alone(route: Route, only: RouteTarget) -> Route:
    targets = [replace(t, percent=100 if t == only else 0) for t in route.targets]
    return replace(route, targets=targets)


def _seed(route: Route) -> int:
    """Else the same callers would be every endpoint's first to try what is new."""
    return int.from_bytes(hashlib.sha256(route.audience.encode()).digest()[:4], "big")


def _fits(name: str, pattern: str) -> dict[str, Any]:
    regex = {"google_re2": {}, "regex": pattern}
    return {"single_predicate": {"input": _header(name), "value_match": {"safe_regex": regex}}}


def _header(name: str) -> dict[str, Any]:
    found = {"@type": f"{TYPE}envoy.type.matcher.v3.HttpRequestHeaderMatchInput"}
    return {"name": name, "typed_config": {**found, "header_name": name}}


def _matcher(matchers: list[dict[str, Any]], otherwise: OnMatch) -> OnMatch:
    return {"matcher": {"matcher_list": {"matchers": matchers}, "on_no_match": otherwise}}


def first_of(matchers: list[dict[str, Any]], otherwise: OnMatch) -> OnMatch:
    """The first that matches, or else `otherwise`, which is all where there are none."""
    return _matcher(matchers, otherwise) if matchers else otherwise
