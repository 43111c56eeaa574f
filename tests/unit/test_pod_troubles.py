"""What a cluster says of a server's pod, in a person's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiaas_hub.schemas.errors import Forbidden, InvalidInput, Unavailable
from aiaas_hub.spawner.pod_troubles import (
    api_refusal,
    ended,
    hopeless,
    placing,
    told,
    too_slow,
)

QUOTA = (
    'pods "jupyter-ada" is forbidden: exceeded quota: team, requested: '
    "requests.nvidia.com/gpu=2,limits.memory=8Gi, used: requests.nvidia.com/gpu=3,limits.memory=0, "
    "limited: requests.nvidia.com/gpu=4,limits.memory=4Gi"
)


def test_a_quota_is_named_with_what_is_asked_and_used() -> None:
    error = api_refusal(403, json.dumps({"message": QUOTA}))
    assert isinstance(error, Forbidden)
    assert error.message == (
        "The cluster's quota team leaves no room: GPUs: 2 asked for, 3 of 4 in use and "
        "memory: 8Gi asked for, 0 of 4Gi in use."
    )
    assert error.remedy


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (403, '{"message": "pods is forbidden: User cannot create"}', "does not let the hub start"),
        (422, '{"message": "spec.containers[0].image: Required"}', "what this profile asks for"),
        (500, "<html>", "does not answer as it should"),
    ],
)
def test_other_refusals_say_whose_turn_it_is(status: int, body: str, says: str) -> None:
    error = api_refusal(status, body)
    assert isinstance(error, Unavailable)
    assert says in error.message
    # The cluster's inner words are the log's.
    assert "forbidden" not in str(error)
    assert "spec." not in str(error)
    assert error.remedy


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "0/3 nodes are available: 1 node(s) had taint {nvidia.com/gpu: present}, that the pod "
            "didn't tolerate, 2 Insufficient cpu.",
            "1 machine set apart for other work; 2 machines without enough free CPUs",
        ),
        (
            # Kubernetes 1.32.
            "0/4 nodes are available: 1 Too many pods, 3 node(s) didn't match Pod's node "
            "affinity/selector. preemption: 0/4 nodes are available: 4 Preemption is not helpful "
            "for scheduling.",
            "1 machine with no room for another server; 3 machines of another kind",
        ),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "1 machine in maintenance"),
    ],
)
def test_the_schedulers_sentence_becomes_ours(message: str, says: str) -> None:
    assert placing(message).endswith(says)


def pod(**container: Any) -> dict[str, Any]:
    return {"status": {"phase": "Pending", "containerStatuses": [{"image": "i:1", **container}]}}


def test_what_never_starts_is_known_early() -> None:
    assert hopeless(None) is None
    # The first try may fail for a moment.
    assert hopeless(pod(state={"waiting": {"reason": "ErrImagePull"}})) is None
    error = hopeless(pod(state={"waiting": {"reason": "ImagePullBackOff"}}))
    assert isinstance(error, Unavailable)
    assert error.message == "The image i:1 cannot be pulled."
    error = hopeless(pod(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}))
    assert isinstance(error, InvalidInput)
    assert "more memory" in error.message
    error = hopeless(
        pod(
            state={"waiting": {"reason": "CrashLoopBackOff"}},
            lastState={"terminated": {"exitCode": 3}},
        )
    )
    assert error is not None
    assert "exit code 3" in error.message


def test_what_takes_too_long_is_explained() -> None:
    failed = {
        "reason": "FailedScheduling",
        "message": "0/2 nodes are available: 2 Insufficient cpu.",
    }
    assert "2 machines without enough free CPUs" in too_slow(None, [failed], 60).message
    placed = [failed, {"reason": "Scheduled", "message": ""}]
    assert too_slow(pod(), placed, 60).message == "The server has not started within 60 seconds."
    missing = {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}
    assert 'secret "s" not found' in too_slow(pod(state={"waiting": missing}), placed, 60).message


def test_why_a_server_ended() -> None:
    assert ended(None, []) == ""
    assert "memory" in ended(pod(state={"terminated": {"reason": "OOMKilled"}}), [])
    assert "lost" in ended(pod(), [{"reason": "TaintManagerEviction"}])
    assert ended(pod(state={"terminated": {"reason": "Completed"}}), []) == ""


def test_events_are_told_as_sentences() -> None:
    assert (
        told({"reason": "Scheduled", "message": "Successfully assigned"}) == "A machine was found."
    )
    assert told({"reason": "Other", "message": "as it is"}) == "as it is"
