"""Who is let in where, and how often: the parts of routes that look at a key's claims."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiaas_hub.domain.ports import Route
from aiaas_hub.gateway.names import (
    AUDIENCE_HEADER,
    BUFFER,
    CHOICE_HEADER,
    FILTERS,
    KEY_HEADER,
    RATE,
    SCOPE_HEADER,
)
from aiaas_hub.schemas.endpoints import KeyScope

POST = {"name": ":method", "string_match": {"exact": "POST"}}


def refusals(
    route: Route, address: Mapping[str, Any], by_number: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What stands before an endpoint's routes, and answers 403: keys of other endpoints, revoked
    ones, those for metadata where they infer, and those that choose a version and may not.

    They are matches of headers and not of Envoy's filter for access (RBAC), since Envoy makes that
    filter anew for every route of a changed file, which made changes slow: see `change_ms` of
    `tests/benchmarks/serving.py`. `address`: matches all paths of the endpoint;
    `by_number`: those that name a version which is then the one that answers.
    """
    may_not_choose = _claims_not(SCOPE_HEADER, KeyScope.VERSIONS)
    refused = [
        _refusal(address, [_claims_not(AUDIENCE_HEADER, route.audience)]),
        # A key without a scope is older than scopes are, and for inference.
        _refusal(address, [POST, _claims(SCOPE_HEADER, KeyScope.METADATA)]),
        _refusal(address, [POST, {"name": CHOICE_HEADER, "present_match": True}, may_not_choose]),
        _refusal(by_number, [POST, may_not_choose]),
    ]
    if route.revoked:
        revoked = "|".join(map(re.escape, sorted(set(route.revoked))))
        by_key = {"name": KEY_HEADER, "string_match": {"safe_regex": {"regex": revoked}}}
        refused.append(_refusal(address, [by_key]))
    return refused


def _refusal(path: Mapping[str, Any], headers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"match": {**path, "headers": list(headers)}, **answered(403)}


def answered(status: int) -> dict[str, Any]:
    """By Envoy itself, and before the body has come."""
    unread = {"@type": f"{FILTERS}.buffer.v3.BufferPerRoute", "disabled": True}
    return {"direct_response": {"status": status}, "typed_per_filter_config": {BUFFER: unread}}


def _claims(header: str, value: str) -> dict[str, Any]:
    return {"name": header, "string_match": {"exact": value}}


def _claims_not(header: str, value: str) -> dict[str, Any]:
    """Also where there is no such header: by default Envoy matches nothing then."""
    return {**_claims(header, value), "invert_match": True, "treat_missing_header_as_empty": True}


def rate_limits(rates: Mapping[str, int]) -> dict[str, Any]:
    """A bucket per key that has a rate, filled once a second. For the host as a whole: each route
    would have buckets of its own, and a key twice its rate on two of them.

    A changed file of routes fills the buckets."""
    if not rates:
        return {}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    unlimited = 1 << 31
    jti = {"request_headers": {"header_name": KEY_HEADER, "descriptor_key": "jti"}}
    return {
        "typed_per_filter_config": {
            RATE: {
                "@type": f"{FILTERS}.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "keys",
                "token_bucket": _bucket(unlimited),
                "filter_enabled": always,
                "filter_enforced": always,
                "rate_limits": [{"actions": [jti]}],
                "descriptors": [
                    {"entries": [{"key": "jti", "value": key}], "token_bucket": _bucket(rate)}
                    for key, rate in sorted(rates.items())
                ],
            }
        }
    }


def _bucket(rate: int) -> dict[str, Any]:
    return {"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": "1s"}
