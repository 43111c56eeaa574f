"""What a cluster says of a server's pod, in a person's words. Pure: objects of the API in,
errors and sentences out.

Pods and events are as the API server sends them
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiaas_hub.schemas.errors import AiaasError, Forbidden, InvalidInput, Unavailable

Object = Mapping[str, Any]
ADMINISTRATOR = "Tell an administrator; the hub's log has the details."
SMALLER = "Choose a smaller profile, stop a server that you no longer need, or try again later."

_QUOTA = re.compile(
    r"exceeded quota: (?P<name>\S+), requested: (?P<asked>\S+), "
    r"used: (?P<used>\S+), limited: (?P<limit>\S+)"
)
_NODES = re.compile(r"0/(?P<all>\d+) nodes are available: (?P<why>.*)", re.DOTALL)
_NO_IMAGE = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull")
_IMAGE_TRIES = ("ErrImagePull",)
"""The first try failed; the kubelet tries again before it backs off."""
_MADE_BY_HAND = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_GONE = {
    "NodeLost": "the machine that it ran on was lost",
    "NodeNotReady": "the machine that it ran on was lost",
    "TaintManagerEviction": "the machine that it ran on was lost",
    "Evicted": "its machine ran short of memory or disk",
    "Preempted": "its place was needed by something more urgent",
    "Preempting": "its place was needed by something more urgent",
    "OOMKilled": "it used more memory than its profile has",
}


def api_refusal(status: int, body: str) -> AiaasError:
    """Why the API server did not take a pod or a claim."""
    text = _message(body)
    quota = _QUOTA.search(text)
    if quota is not None:
        full = " and ".join(_shortages(quota)) or quota["asked"]
        return Forbidden(
            f"The cluster's quota {quota['name']} leaves no room: {full}.", remedy=SMALLER
        )
    if status == 403:
        return Unavailable("The cluster does not let the hub start servers.", remedy=ADMINISTRATOR)
    if status in (400, 422):
        return Unavailable(
            "The cluster does not accept what this profile asks for.", remedy=ADMINISTRATOR
        )
    return Unavailable(
        "The cluster's API does not answer as it should.",
        remedy="Try again in a moment; running servers are not touched.",
    )


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body


def _shortages(quota: re.Match[str]) -> list[str]:
    asked, used, limit = (_amounts(quota[name]) for name in ("asked", "used", "limit"))
    return [
        f"{_resource(name)}: {amount} asked for, {used.get(name, '?')} of {limit[name]} in use"
        for name, amount in asked.items()
        if name in limit
    ]


def _amounts(text: str) -> dict[str, str]:
    """`pods=1,requests.cpu=2` as a mapping."""
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def _resource(name: str) -> str:
    plain = name.removeprefix("requests.").removeprefix("limits.")
    names = {"cpu": "CPUs", "memory": "memory", "pods": "servers", "storage": "storage"}
    if plain.startswith("nvidia.com/"):
        return "GPUs" if plain in ("nvidia.com/gpu", "nvidia.com/gpu.shared") else "GPU slices"
    return names.get(plain, plain)


def unplaced(events: Sequence[Object]) -> str:
    """Why the scheduler finds no node, from its newest event; empty if it has not said so."""
    for event in reversed(events):
        if event.get("reason") == "Scheduled":
            return ""
        if event.get("reason") == "FailedScheduling":
            return placing(str(event.get("message", "")))
    return ""


def placing(message: str) -> str:
    """The scheduler's sentence as ours."""
    found = _NODES.search(message)
    if found is None:
        return "no machine of the cluster has been found for it yet"
    reasons = []
    for part in re.split(r", (?=\d)|\. ", found["why"].strip().rstrip(".")):
        count, _, why = part.strip().partition(" ")
        if count.isdigit():
            reasons.append(f"{_count(int(count))} {_placing_reason(why)}")
    listed = "; ".join(reasons) or found["why"].strip()
    return f"of the cluster's {found['all']} machines none can take it: {listed}"


def _count(number: int) -> str:
    return "1 machine" if number == 1 else f"{number} machines"


def _placing_reason(why: str) -> str:
    if why.startswith("Insufficient "):
        return f"without enough free {_resource(why.removeprefix('Insufficient '))}"
    if "taint" in why:
        return "set apart for other work"
    if "selector" in why or "affinity" in why:
        return "of another kind"
    if "unschedulable" in why:
        return "in maintenance"
    if "Too many pods" in why:
        return "with no room for another server"
    return why


def hopeless(pod: Object | None) -> AiaasError | None:
    """Why waiting any longer for this pod is vain; None while it may still start."""
    status = (pod or {}).get("status", {})
    if status.get("phase") == "Failed" and not status.get("containerStatuses"):
        return Unavailable(f"The server was ended: {_ending(status)}.", remedy=SMALLER)
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in containers:
        state = container.get("state", {})
        reason = state.get("waiting", {}).get("reason", "")
        if reason in _NO_IMAGE and reason not in _IMAGE_TRIES:
            return Unavailable(
                f"The image {container['image']} cannot be pulled.",
                remedy="Choose another image or profile, or tell an administrator.",
            )
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
        if ended and ended.get("exitCode"):
            return _crashed(ended)
    return None


def _crashed(ended: Object) -> AiaasError:
    if ended.get("reason") == "OOMKilled":
        return InvalidInput(
            "The server used more memory than its profile has while it started.",
            remedy="Choose a profile with more memory.",
        )
    return Unavailable(
        f"The server ended while it started, with exit code {ended['exitCode']}.",
        remedy=ADMINISTRATOR,
    )


def too_slow(pod: Object | None, events: Sequence[Object], seconds: int) -> AiaasError:
    """Why a pod has not started in so many seconds."""
    why = unplaced(events)
    if why:
        return Unavailable(f"Your server found no place: {why}.", remedy=SMALLER)
    status = (pod or {}).get("status", {})
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _MADE_BY_HAND:
            return Unavailable(
                f"The server cannot be set up: {waiting.get('message', waiting['reason'])}.",
                remedy=ADMINISTRATOR,
            )
    return Unavailable(
        f"The server has not started within {seconds} seconds.",
        remedy="Try again: a large image may have arrived by then.",
    )


def ended(pod: Object | None, events: Sequence[Object]) -> str:
    """Why a server that ran does no longer; empty if nothing tells."""
    status = (pod or {}).get("status", {})
    reasons = [status.get("reason", "")]
    for container in status.get("containerStatuses", ()):
        reasons.append(container.get("state", {}).get("terminated", {}).get("reason", ""))
    reasons += [event.get("reason", "") for event in reversed(events)]
    return next((_GONE[reason] for reason in reasons if reason in _GONE), "")


def _ending(status: Object) -> str:
    known = _GONE.get(status.get("reason", ""))
    return known or str(status.get("message") or status.get("reason") or "nothing says why")


def told(event: Object) -> str:
    """One event of a starting server for the page that shows its progress."""
    reason, message = event.get("reason", ""), str(event.get("message", ""))
    if reason == "FailedScheduling":
        return f"Waiting for a place: {placing(message)}."
    if reason == "Failed":
        return f"Not yet: {message}"
    sentences = {
        "Scheduled": "A machine was found.",
        "Pulling": "The image is being fetched; the first time this takes minutes.",
        "Pulled": "The image is there.",
        "Created": "The server was set up.",
        "Started": "The server has started; it opens as soon as it answers.",
        "TriggeredScaleUp": "The cluster is adding a machine; this takes minutes.",
        "NotTriggerScaleUp": "The cluster cannot add a machine for this profile.",
    }
    return sentences.get(reason, message)
