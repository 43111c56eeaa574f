"""Who is let in where, and how often: the parts of routes that look at a key's claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiaas_hub.domain.ports import Route
from aiaas_hub.gateway.names import CLAIMS, FILTERS, JWT, RATE
from aiaas_hub.schemas.endpoints import KeyScope


def admit(route: Route, *, inference: bool = False, choice: bool = False) -> dict[str, Any]:
    """Keys of this endpoint that are not revoked: all of them, those that are for more than
    metadata, or those that may choose a version."""
    wanted = [_claim("aud", route.audience)]
    denied = [_claim("jti", jti) for jti in sorted(set(route.revoked))]
    if inference:
        # A key without a scope is older than scopes are, and for inference.
        denied.append(_claim("scope", KeyScope.METADATA))
    if choice:
        wanted.append(_claim("scope", KeyScope.VERSIONS))
    if denied:
        wanted.append({"not_id": {"or_ids": {"ids": denied}}})
    principal = wanted[0] if len(wanted) == 1 else {"and_ids": {"ids": wanted}}
    return {
        "@type": f"{FILTERS}.rbac.v3.RBACPerRoute",
        "rbac": {
            "rules": {
                "action": "ALLOW",
                "policies": {"key": {"permissions": [{"any": True}], "principals": [principal]}},
            }
        },
    }


def rate_limits(rates: Mapping[str, int]) -> dict[str, Any]:
    """A bucket per key that has a rate, filled once a second. For the host as a whole: each route
    would have buckets of its own, and a key twice its rate on two of them.

    A changed file of routes fills the buckets."""
    if not rates:
        return {}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    unlimited = 1 << 31
    jti = {
        "metadata": {
            "metadata_key": {"key": JWT, "path": [{"key": CLAIMS}, {"key": "jti"}]},
            "descriptor_key": "jti",
        }
    }
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


def _claim(name: str, value: str) -> dict[str, Any]:
    return {
        "sourced_metadata": {
            "metadata_matcher": {
                "filter": JWT,
                "path": [{"key": CLAIMS}, {"key": name}],
                "value": {"string_match": {"exact": value}},
            }
        }
    }
