"""An endpoint's traffic: who gets which share, what a change makes of it, and what stays loaded.

Pure: each function takes the endpoint as it is and gives the change that the records then make in
one transaction. `former` is where a rollback leads: what served before the present split or
version began, however often the shares were changed since. A shadow is a canary without a share:
it gets copies, until it is promoted or rolled back, or somebody gives it a share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiaas_hub.schemas.endpoints import Action, Endpoint, EndpointState, EndpointVersion
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound

KEPT_VERSIONS = 2
"""So many of the newest good versions stay loaded, whatever the route says."""

Traffic = dict[int, int]


@dataclass(frozen=True)
class Shift:
    """One change of an endpoint, and its line in the history."""

    action: Action
    traffic: Traffic
    former: Traffic
    version: int | None = None
    why: str = ""
    states: Mapping[int, tuple[EndpointState, str]] = field(default_factory=dict)
    """Version → its new state and, of a failed one, the reason."""
    routes: int | None = None
    """The version that gets its first share; where that is all, there is nothing to judge."""
    sticky: bool | None = None
    """Whether callers stay with their version from now on; None: as before."""
    bake: Mapping[str, Any] | None = None
    """Of `version`: the numbers that decided."""


def canary_of(endpoint: Endpoint) -> EndpointVersion | None:
    """The version that has a share and is neither promoted nor rolled back yet."""
    newest = endpoint.versions[0]
    return newest if newest.is_judged else None


def kept(endpoint: Endpoint) -> set[int]:
    """Versions that stay loaded: what the route or its rollback names, the canary and the newest
    good ones."""
    good = [v.version for v in endpoint.versions if v.state is EndpointState.SERVING]
    canaries = {v.version for v in endpoint.versions if v.state is EndpointState.CANARY}
    return {*endpoint.traffic, *endpoint.former, *canaries, *good[:KEPT_VERSIONS]}


def begin(endpoint: Endpoint, version: int) -> Shift | None:
    """The first share of a version that has been verified; None if it has had it, or is no
    canary any more. One that gets all requests becomes serving when the gateway has them."""
    found = _find(endpoint, version)
    if found.state is not EndpointState.CANARY or found.routed_at is not None:
        return None
    if found.plan is None or not endpoint.traffic:
        why = _because(found, "" if found.plan is None else "The first version gets all requests.")
        return Shift(
            Action.PUBLISHED, {version: 100}, endpoint.traffic, version, why, routes=version
        )
    if found.plan.shadow:
        why = _because(found, f"It gets a copy of {found.plan.percent} % of the requests.")
        traffic, former = endpoint.traffic, endpoint.former
        return Shift(Action.SHADOW, traffic, former, version, why, routes=version)
    traffic = with_share(endpoint.traffic, version, found.plan.percent)
    return Shift(
        Action.CANARY,
        traffic,
        endpoint.traffic,
        version,
        found.why,
        routes=version,
        sticky=found.plan.sticky,
    )


def _because(version: EndpointVersion, sentence: str) -> str:
    """What its publisher said, and what the platform has to say."""
    return f"{version.why} ({sentence})" if version.why and sentence else version.why or sentence


def promote(endpoint: Endpoint, why: str) -> Shift:
    """All requests to the canary, or to the newest version of a split. Raises `Conflict`."""
    canary = canary_of(endpoint)
    if canary is not None:
        version = canary.version
    elif len(endpoint.traffic) > 1:
        version = max(endpoint.traffic)
    else:
        raise Conflict(
            f"{endpoint.name} has no canary to promote.",
            remedy=f"Publish one: %aiaas publish {endpoint.name} --model NAME --canary 10",
        )
    states = {version: (EndpointState.SERVING, "")} if canary is not None else {}
    former = endpoint.former if version in endpoint.traffic else endpoint.traffic
    return Shift(Action.PROMOTED, {version: 100}, former, version, why, states)


def roll_back(endpoint: Endpoint, by: str, why: str) -> Shift:
    """The former traffic again; a canary has failed then, and one without a share, as a shadow is,
    alone. Raises `Conflict`."""
    canary = canary_of(endpoint)
    hidden = canary is not None and canary.version not in endpoint.traffic
    if not endpoint.former and not hidden:
        raise Conflict(
            f"{endpoint.name} has no former version to go back to.",
            remedy=f"See %aiaas endpoint {endpoint.name}; %aiaas traffic {endpoint.name} V=100 "
            "goes to another version that is loaded.",
        )
    states = {}
    if canary is not None:
        reason = f"Rolled back{f' by {by}' if by else ''}{f': {why}' if why else '.'}"
        states[canary.version] = (EndpointState.FAILED, reason)
        if hidden:
            return Shift(
                Action.ROLLED_BACK,
                endpoint.traffic,
                endpoint.former,
                canary.version,
                why,
                states,
            )
    leaving = set(endpoint.traffic) - set(endpoint.former)
    return Shift(
        Action.ROLLED_BACK,
        endpoint.former,
        {},
        canary.version if canary else max(leaving, default=None),
        why,
        states,
    )


def with_numbers(shift: Shift, bake: Mapping[str, Any]) -> Shift:
    """The same, with the numbers that decided."""
    return replace(shift, bake=bake)


def share_out(
    endpoint: Endpoint, shares: Mapping[int, int], why: str, sticky: bool | None = None
) -> Shift | None:
    """The traffic that somebody wants; None if it is so already. Raises `InvalidInput`,
    `NotFound` or `Conflict`."""
    wanted = {version: percent for version, percent in sorted(shares.items()) if percent}
    total = sum(wanted.values())
    if total != 100:
        raise InvalidInput(
            f"The shares add up to {total} %.", remedy="Give percentages that add up to 100."
        )
    if not endpoint.traffic:
        raise Conflict(
            f"{endpoint.name} is {endpoint.state} and serves nothing.",
            remedy=f"Publish a model to it: %aiaas publish {endpoint.name} --model NAME",
        )
    loaded = kept(endpoint)
    states = {}
    for version in wanted:
        found = _find(endpoint, version)
        if not (found.state is EndpointState.SERVING or found.is_judged):
            raise Conflict(
                f"Version {version} of {endpoint.name} is {found.state}.",
                remedy=f"Loaded are {_listed(loaded)}. Publish its model again: %aiaas publish "
                f"{endpoint.name} --model {found.model}",
            )
        if version not in loaded:
            raise Conflict(
                f"Version {version} of {endpoint.name} is not loaded any more.",
                remedy=f"Loaded are {_listed(loaded)}. Publish its model again: %aiaas publish "
                f"{endpoint.name} --model {found.model}",
            )
        if found.is_judged and wanted == {version: 100}:
            states[version] = (EndpointState.SERVING, "")
    if sticky is not None and sticky != endpoint.sticky:
        how = "Each caller stays with one version." if sticky else "Requests are drawn by lot."
        why = f"{why} {how}".strip()
    if sticky is None:
        sticky = endpoint.sticky and len(endpoint.traffic) > 1
    if wanted == endpoint.traffic and sticky == endpoint.sticky:
        return None
    canary = canary_of(endpoint)
    hidden = canary is None or canary.version not in endpoint.traffic
    begins = hidden and len(endpoint.traffic) == 1
    former = endpoint.traffic if begins else endpoint.former or endpoint.traffic
    if former == wanted:
        former = {}
    return Shift(Action.TRAFFIC, wanted, former, None, why, states, sticky=sticky)


def fail(endpoint: Endpoint, version: int, error: str) -> Shift:
    """A version that did not come to serve."""
    return Shift(
        Action.FAILED,
        endpoint.traffic,
        endpoint.former,
        version,
        error,
        {version: (EndpointState.FAILED, error)},
    )


def with_share(traffic: Mapping[int, int], version: int, percent: int) -> Traffic:
    """`percent` for the version, the rest among the others as it was among them; whole numbers
    by largest remainder, so that they add up to 100."""
    others = {v: p for v, p in traffic.items() if v != version}
    rest, total = 100 - percent, sum(others.values())
    exact = {v: p * rest / total for v, p in others.items()}
    shares = {v: int(share) for v, share in exact.items()}
    by_remainder = sorted(exact, key=lambda v: exact[v] - shares[v], reverse=True)
    for v in by_remainder[: rest - sum(shares.values())]:
        shares[v] += 1
    return {v: p for v, p in sorted({**shares, version: percent}.items()) if p}


def _find(endpoint: Endpoint, version: int) -> EndpointVersion:
    for found in endpoint.versions:
        if found.version == version:
            return found
    raise NotFound(
        f"Endpoint {endpoint.name} has no version {version}.",
        remedy=f"See %aiaas endpoint {endpoint.name}.",
    )


def _listed(versions: set[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"
