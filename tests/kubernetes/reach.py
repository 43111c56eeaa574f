"""Who reaches whom by a set of NetworkPolicies, as the API describes them
(https://kubernetes.io/docs/concepts/services-networking/network-policies/): where a policy of a
direction selects a pod, only what one of them lists is let through."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod by its labels and its namespace's, or an address outside (`ip`)."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    ip: str = ""


def reaches(policies: Sequence[Policy], source: Peer, target: Peer, port: int) -> bool:
    return _lets(policies, "Egress", source, target, port) and _lets(
        policies, "Ingress", target, source, port
    )


def _lets(policies: Sequence[Policy], way: str, pod: Peer, other: Peer, port: int) -> bool:
    if pod.ip:
        return True
    about = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and way in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not about:
        return True
    peers = "to" if way == "Egress" else "from"
    return any(
        _rule_lets(rule, peers, pod.namespace, other, port)
        for spec in about
        for rule in spec.get(way.lower(), ())
    )


def _rule_lets(rule: dict[str, Any], peers: str, namespace: str, other: Peer, port: int) -> bool:
    ports = rule.get("ports")
    if ports and not any(one["port"] == port for one in ports):
        return False
    listed = rule.get(peers)
    return not listed or any(_is(one, namespace, other) for one in listed)


def _is(listed: dict[str, Any], namespace: str, other: Peer) -> bool:
    if "ipBlock" in listed:
        if not other.ip:
            return False
        address = ipaddress.ip_address(other.ip)
        block = listed["ipBlock"]
        excepted = [ipaddress.ip_network(one) for one in block.get("except", ())]
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in one for one in excepted
        )
    if other.ip:
        return False
    if "namespaceSelector" in listed:
        if not _selects(listed["namespaceSelector"], other.namespace_labels):
            return False
    elif other.namespace != namespace:
        return False
    return _selects(listed.get("podSelector", {}), other.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(
        labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    ) and all(
        # The only operator that the manifests have.
        labels.get(one["key"]) in {"In": one["values"]}[one["operator"]]
        for one in selector.get("matchExpressions", ())
    )
