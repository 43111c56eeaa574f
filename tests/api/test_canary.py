"""Canaries, their judgement, rollbacks and the history, over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from api_world import World
from canary_calls import ENDPOINT, counted, history, later, publish, routed

from aiaas_hub.domain.ports import DoesNotAnswer, ModelCounts
from aiaas_hub.schemas.errors import Unavailable

# What differs between the databases is in tests/contract/test_records.py.
pytestmark = pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)


def test_a_canary_gets_its_share_and_waits(world: World) -> None:
    publish(world, b"one")
    endpoint = publish(world, b"two", percent=10)
    assert (endpoint["state"], endpoint["traffic"]) == ("canary", {"1": 90, "2": 10})
    assert endpoint["former"] == {"1": 100}
    world.tick(3)
    assert world.ok("GET", ENDPOINT)["traffic"] == {"1": 90, "2": 10}
    assert routed(world) == {1: 90, 2: 10}
    # No other version is published over one that is being judged.
    world.model(onnx=b"three")
    busy = world.call("POST", f"{ENDPOINT}/publish", json={"model": "cnn"})
    assert busy.status_code == 409
    assert "%aiaas promote digits" in busy.json()["error"]["remedy"]


def test_promote(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10)
    endpoint = world.ok("POST", f"{ENDPOINT}/promote", json={"why": "it is better"})
    assert (endpoint["state"], endpoint["traffic"]) == ("serving", {"2": 100})
    assert endpoint["former"] == {"1": 100}
    assert routed(world) == {1: 0, 2: 100}
    again = world.call("POST", f"{ENDPOINT}/promote", json={})
    assert again.status_code == 409
    assert history(world) == [
        ("promoted", "alice", {"2": 100}),
        ("canary", "alice", {"1": 90, "2": 10}),
        ("published", "alice", {"1": 100}),
    ]
    newest = world.ok("GET", f"{ENDPOINT}/history")["items"][0]
    assert (newest["why"], newest["before"]) == ("it is better", {"1": 90, "2": 10})


def test_rollback_of_a_canary_asks_nothing_of_triton(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=50)
    world.serving.calls.clear()
    # Not even whether it is up.
    world.serving.ready = False
    endpoint = world.ok("POST", f"{ENDPOINT}/rollback", json={"why": "customers complain"})
    assert world.serving.calls == []
    assert routed(world)[1] == 100
    assert (endpoint["state"], endpoint["traffic"], endpoint["former"]) == (
        "failed",
        {"1": 100},
        {},
    )
    assert endpoint["versions"][0]["error"] == "Rolled back by alice: customers complain"
    world.serving.ready = True
    world.tick()
    assert {version for _, version in world.serving.installed} == {1}
    assert world.call("POST", f"{ENDPOINT}/rollback", json={}).status_code == 409


def test_rollback_of_a_version_that_got_everything(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two")
    for _ in range(3):
        world.tick()
    # What a rollback leads to is loaded, however long ago it served.
    endpoint = world.ok("POST", f"{ENDPOINT}/rollback", json={})
    assert (endpoint["state"], endpoint["traffic"]) == ("serving", {"1": 100})
    world.tick()
    # The mistake may have been the rollback.
    forward = world.ok("POST", f"{ENDPOINT}/traffic", json={"traffic": {"2": 100}})
    assert (forward["traffic"], forward["former"]) == ({"2": 100}, {"1": 100})


def test_what_a_route_or_its_rollback_names_is_never_unloaded(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10)
    world.ok("POST", f"{ENDPOINT}/promote", json={})
    world.ok("POST", f"{ENDPOINT}/traffic", json={"traffic": {"1": 100}})
    # Two newer versions fail; a third is on its way beside the split.
    publish(world, b"broken")
    endpoint = publish(world, b"four", percent=5)
    assert endpoint["traffic"] == {"1": 95, "4": 5}
    world.tick(2)
    (name,) = world.serving.served
    assert {1, 4} <= world.serving.served[name]
    world.ok("POST", f"{ENDPOINT}/rollback", json={})
    world.tick(2)
    assert 1 in world.serving.served[name]
    assert 4 not in world.serving.served[name]


def test_traffic_is_what_somebody_says(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two")
    path = f"{ENDPOINT}/traffic"
    split = world.ok("POST", path, json={"traffic": {"1": 70, "2": 30}})
    assert (split["traffic"], split["former"]) == ({"1": 70, "2": 30}, {"2": 100})
    # However often the shares change, a rollback leads to what served before the split.
    world.ok("POST", path, json={"traffic": {"1": 20, "2": 80}})
    assert world.ok("POST", f"{ENDPOINT}/rollback", json={})["traffic"] == {"2": 100}
    for shares, status, words in (
        ({"1": 70, "2": 40}, 400, "add up to 110 %"),
        ({"1": 0}, 400, "add up to 0 %"),
        ({"9": 100}, 404, "has no version 9"),
        ({"1": 101}, 400, ""),
        ({}, 400, ""),
    ):
        answer = world.call("POST", path, json={"traffic": shares})
        assert answer.status_code == status, shares
        assert words in answer.json()["error"]["message"]
    publish(world, b"broken")
    failed = world.call("POST", path, json={"traffic": {"3": 100}})
    assert failed.status_code == 409
    assert world.ok("GET", ENDPOINT)["traffic"] == {"2": 100}


def test_callers_stay_with_a_version_if_asked(world: World) -> None:
    publish(world, b"one")
    assert publish(world, b"two", percent=10, sticky=True)["sticky"] is True
    (route,) = world.gateway.routes
    assert route.sticky
    path = f"{ENDPOINT}/traffic"
    # As it is, unless somebody says otherwise.
    assert world.ok("POST", path, json={"traffic": {"1": 80, "2": 20}})["sticky"] is True
    split = {"traffic": {"1": 80, "2": 20}, "sticky": False}
    assert world.ok("POST", path, json=split)["sticky"] is False
    assert not world.gateway.routes[0].sticky
    assert world.ok("POST", path, json={**split, "sticky": True})["sticky"] is True
    # Which the shares alone would not tell.
    lines = world.ok("GET", f"{ENDPOINT}/history")["items"]
    assert lines[0]["why"] == "Each caller stays with one version."
    assert lines[1]["why"] == "Requests are drawn by lot."
    world.ok("POST", f"{ENDPOINT}/promote", json={})
    # It belonged to the split that is over.
    assert world.ok("POST", path, json={"traffic": {"1": 80, "2": 20}})["sticky"] is False
    world.ok("POST", path, json={"traffic": {"2": 100}})
    publish(world, b"three", percent=10)
    assert world.ok("GET", ENDPOINT)["sticky"] is False


def test_a_version_that_is_not_loaded_gets_no_share(world: World) -> None:
    for content in (b"one", b"two", b"three"):
        publish(world, content)
    answer = world.call("POST", f"{ENDPOINT}/traffic", json={"traffic": {"1": 50, "3": 50}})
    assert answer.status_code == 409
    assert "--model alice/cnn@1" in answer.json()["error"]["remedy"]


def test_a_repeated_request_changes_once(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two")
    headers = {"Idempotency-Key": "sent-again-by-a-client"}
    for _ in range(2):
        endpoint = world.ok("POST", f"{ENDPOINT}/rollback", json={}, headers=dict(headers))
        assert endpoint["traffic"] == {"1": 100}
    assert [action for action, _, _ in history(world)].count("rolled back") == 1


def test_the_first_version_gets_all_requests_whatever_was_asked(world: World) -> None:
    endpoint = publish(world, b"one", percent=10, bake_seconds=60)
    assert (endpoint["state"], endpoint["traffic"]) == ("serving", {"1": 100})
    (line,) = world.ok("GET", f"{ENDPOINT}/history")["items"]
    assert line["why"] == "The first version gets all requests."


def test_a_failed_publish_and_a_retirement_are_in_the_history(world: World) -> None:
    publish(world, b"one")
    publish(world, b"broken", percent=10)
    world.ok("DELETE", ENDPOINT)
    assert [(action, by) for action, by, _ in history(world)] == [
        ("retired", "alice"),
        ("failed", ""),
        ("published", "alice"),
    ]


def test_a_good_canary_is_promoted_after_its_bake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=60)
    counted(world, 1, 900, errors=1)
    counted(world, 2, 100)
    world.tick(2)
    endpoint = world.ok("GET", ENDPOINT)
    bake = endpoint["versions"][0]["bake"]
    assert (endpoint["state"], bake["decision"]) == ("canary", None)
    assert (bake["canary"]["requests"], bake["canary"]["errors"]) == (100, 0)
    assert (bake["disagreement"], bake["rows"], bake["former_version"]) == (0.0, 4, 1)
    assert bake["canary"]["probes"] >= 2
    later(world, 61, monkeypatch)
    world.tick()
    endpoint = world.ok("GET", ENDPOINT)
    assert (endpoint["state"], endpoint["traffic"]) == ("serving", {"2": 100})
    bake = endpoint["versions"][0]["bake"]
    assert bake["decision"] == "promoted"
    assert "0 of its 100 requests failed." in bake["reasons"]
    action, by, _ = history(world)[0]
    assert (action, by) == ("promoted", "")


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        ({"requests": 40, "errors": 4}, "4 of its 40 requests failed (10.0%)"),
        ({"requests": 40, "ms": 1000.0}, "Its p95 is"),
    ],
)
def test_a_bad_canary_is_rolled_back(
    world: World, monkeypatch: pytest.MonkeyPatch, canary: dict[str, Any], words: str
) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=60)
    world.tick()
    counted(world, 1, 400)
    counted(world, 2, **canary)
    later(world, 61, monkeypatch)
    world.tick()
    endpoint = world.ok("GET", ENDPOINT)
    assert (endpoint["state"], endpoint["traffic"]) == ("failed", {"1": 100})
    assert words in endpoint["versions"][0]["error"]
    assert endpoint["versions"][0]["bake"]["decision"] == "rolled back"
    assert routed(world) == {1: 100}
    assert words in world.ok("GET", f"{ENDPOINT}/history")["items"][0]["why"]


def test_errors_do_not_bake_to_the_end(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=3600)
    counted(world, 2, 50, errors=25)
    world.tick()
    assert world.ok("GET", ENDPOINT)["state"] == "failed"


def test_a_canary_that_answers_otherwise_is_rolled_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")
    infer = world.serving.infer

    def flipped(model: str, version: int, inputs: Any) -> dict[str, Any]:
        answer = infer(model, version, inputs)
        if version == 1:
            answer = {"output": -answer["output"]}
        return answer

    publish(world, b"two", percent=10, bake_seconds=3600)
    monkeypatch.setattr(world.serving, "infer", flipped)
    world.tick()
    version = world.ok("GET", ENDPOINT)["versions"][0]
    assert version["state"] == "failed"
    assert "held-out rows otherwise than version 1" in version["error"]


def test_a_canary_that_begins_to_answer_wrongly_is_rolled_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=3600)
    world.tick()
    infer = world.serving.infer

    def wrong(model: str, version: int, inputs: Any) -> dict[str, Any]:
        answer = infer(model, version, inputs)
        if version == 2:
            answer["output"] = np.full_like(answer["output"], np.nan)
        return answer

    monkeypatch.setattr(world.serving, "infer", wrong)
    world.tick(2)
    version = world.ok("GET", ENDPOINT)["versions"][0]
    assert version["state"] == "failed"
    assert "not as the source model does" in version["error"]


def test_a_restart_of_an_engine_is_not_held_against_a_canary(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=60)
    world.tick()

    def down(*_: object) -> None:
        raise Unavailable("Triton is starting")

    with monkeypatch.context() as patch:
        patch.setattr(world.serving, "infer", down)
        later(world, 61, patch)
        world.tick(2)
        # Nor is it promoted while nothing is known.
        assert world.ok("GET", ENDPOINT)["state"] == "canary"
    later(world, 61, monkeypatch)
    world.tick()
    assert world.ok("GET", ENDPOINT)["state"] == "serving"


def test_a_model_that_died_is_held_against_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=3600)
    infer = world.serving.infer

    def dead(model: str, version: int, inputs: Any) -> dict[str, Any]:
        if version == 2:
            raise DoesNotAnswer("it is gone")
        return infer(model, version, inputs)

    monkeypatch.setattr(world.serving, "infer", dead)
    world.tick(3)
    assert world.ok("GET", ENDPOINT)["traffic"] == {"1": 100}


def test_a_gateway_that_began_anew_loses_no_count(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=3600)
    counted(world, 2, 30)
    world.tick()
    counted(world, 2, 12)
    world.tick()
    counted(world, 2, 15)
    world.tick()
    bake = world.ok("GET", ENDPOINT)["versions"][0]["bake"]
    assert bake["canary"]["requests"] == 45


@pytest.mark.parametrize("step", ["keep_bake", "change", "apply"])
def test_killed_at_each_step_of_a_decision(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The service dies; what comes back decides once, and the gateway has the decision."""
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=60)
    world.tick()

    def dies(*_: object, **__: object) -> None:
        raise SystemExit

    records = world.reconciler._baking._records
    with monkeypatch.context() as patch:
        if step != "keep_bake":
            later(world, 61, patch)
        patch.setattr(world.gateway if step == "apply" else records, step, dies)
        try:
            world.tick()
        except SystemExit:
            assert step == "apply"
    later(world, 61, monkeypatch)
    world.tick(2)
    assert world.ok("GET", ENDPOINT)["traffic"] == {"2": 100}
    assert routed(world) == {1: 0, 2: 100}
    assert [action for action, _, _ in history(world)].count("promoted") == 1


def test_somebody_decides_before_the_bake_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=60)
    world.tick()
    world.ok("POST", f"{ENDPOINT}/rollback", json={})
    later(world, 61, monkeypatch)
    world.tick(2)
    assert world.ok("GET", ENDPOINT)["traffic"] == {"1": 100}
    assert history(world)[0][0] == "rolled back"


def test_two_decide_at_once_and_one_does(world: World) -> None:
    """Publishing over a canary, promoting and rolling back: each sees what the other did."""
    publish(world, b"one")
    publish(world, b"two", percent=10)
    world.ok("POST", f"{ENDPOINT}/promote", json={})
    # The rollback that comes second undoes the promotion; it does not fail the version.
    endpoint = world.ok("POST", f"{ENDPOINT}/rollback", json={})
    assert (endpoint["traffic"], endpoint["versions"][0]["state"]) == ({"1": 100}, "serving")


def test_statistics_tell_what_each_version_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10)
    # Two looks are as far apart as they happen to be.
    monkeypatch.setattr("aiaas_hub.domain.watching._LEAST_SECONDS", 0.0)
    for requests in (100, 130):
        counted(world, 1, requests, errors=10)
        counted(world, 2, requests // 10)
        world.reconciler._check_health()
    found = world.ok("GET", f"{ENDPOINT}/statistics")["versions"]
    assert [(v["version"], v["percent"], v["requests"], v["errors"]) for v in found] == [
        (2, 10, 13, 0),
        (1, 90, 130, 10),
    ]
    for version in found:
        assert (version["healthy"], version["batch_sizes"]) == (True, {"4": 3})
        assert (version["queue_ms"], version["compute_ms"], version["rows"]) == (0.5, 3.0, 12)
        assert version["p50_ms"] == 0.75
    (sample,) = found[1]["samples"]
    assert sample["requests_per_second"] > 0
    assert sample["p50_ms"] < sample["p95_ms"] < sample["p99_ms"]
    # Nobody waited between these two looks.
    assert sample["queue_ms"] is None
    assert sample["errors_per_second"] == 0
    # The gateway began anew: what is counted since is no negative number.
    counted(world, 1, 5, errors=1)
    world.serving.counted = ModelCounts(30, 10, 20_000_000, 6, 18_000_000, {5: 6})
    world.reconciler._check_health()
    last = world.ok("GET", f"{ENDPOINT}/statistics")["versions"][1]["samples"][-1]
    assert last["requests_per_second"] > 0
    assert last["queue_ms"] == 3.0
    # So does the model server: its mean is that of what it counted since.
    counted(world, 1, 9)
    world.serving.counted = ModelCounts(2, 2, 500_000, 2, 1_000_000, {1: 2})
    world.reconciler._check_health()
    last = world.ok("GET", f"{ENDPOINT}/statistics")["versions"][1]["samples"][-1]
    assert last["queue_ms"] == 0.25
    # An engine that is away takes only what it knows with it.
    world.serving.ready = False
    found = world.ok("GET", f"{ENDPOINT}/statistics")["versions"]
    assert (found[1]["requests"], found[1]["queue_ms"]) == (9, None)
    counted(world, 1, 12)
    world.reconciler._check_health()
    last = world.ok("GET", f"{ENDPOINT}/statistics")["versions"][1]["samples"][-1]
    assert last["requests_per_second"] > 0
    assert last["queue_ms"] is None


def test_a_version_that_does_not_answer_is_said_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, b"one")

    def dead(*_: object) -> None:
        raise DoesNotAnswer("it is gone")

    monkeypatch.setattr(world.serving, "infer", dead)
    world.reconciler._check_health()
    (version,) = world.ok("GET", f"{ENDPOINT}/statistics")["versions"]
    assert (version["healthy"], version["fault"]) == (False, "it is gone")


def test_a_version_that_begins_to_answer_wrongly_is_said_to(world: World) -> None:
    """It is loaded anew once: another time would not make its file a better one."""

    def told() -> tuple[bool, str]:
        world.serving.calls.clear()
        world.reconciler._check_health()
        (version,) = world.ok("GET", f"{ENDPOINT}/statistics")["versions"]
        return version["healthy"], version["fault"]

    # A publish accepts a thousandth of the largest row, which is more than that of this one.
    world.published(offset=0.01)
    assert told() == (True, "")
    world.serving.offset = 0.5
    for heals in (1, 0):
        healthy, fault = told()
        assert healthy is False
        assert fault.startswith("Its answer to a held-out row is 0.49 off the source model's")
        assert world.serving.calls.count("heal") == heals
    world.serving.offset = 0.0
    assert told() == (True, "")
    world.serving.offset = float("nan")
    assert told()[0] is False
    assert world.serving.calls.count("heal") == 1


def test_a_canary_with_another_signature_is_another_model_of_triton(world: World) -> None:
    """Versions share one configuration in Triton: a changed signature must not touch it."""
    publish(world, b"one")
    body = world.hand_over(onnx=b"two")
    body["signature"]["outputs"][0]["shape"] = [None]
    world.ok("POST", "/models/alice/cnn/versions", json=body)
    plan = {"percent": 30, "bake_seconds": 3600}
    world.ok("POST", f"{ENDPOINT}/publish", json={"model": "cnn", "canary": plan})
    world.tick(2)
    (route,) = world.gateway.routes
    models = {target.version: target.model for target in route.targets}
    assert models[1] != models[2]
    assert world.serving.served == {models[1]: {1}, models[2]: {2}}
    # Their answers have one form, and so they are compared all the same.
    bake = world.ok("GET", ENDPOINT)["versions"][0]["bake"]
    assert (bake["disagreement"], bake["rows"]) == (0.0, 4)
    assert world.ok("POST", f"{ENDPOINT}/rollback", json={})["traffic"] == {"1": 100}
    world.tick(2)
    assert world.serving.served == {models[1]: {1}}


def test_lineage_is_that_of_the_version_that_answered(world: World) -> None:
    publish(world, b"one")
    publish(world, b"two", percent=10)
    for version in (1, 2):
        found = world.ok("GET", f"{ENDPOINT}/lineage", params={"version": version})
        assert (found["endpoint_version"], found["model"]["version"]) == (version, version)
    world.ok("POST", f"{ENDPOINT}/rollback", json={})
    # An answer that the canary gave before can be traced still.
    found = world.ok("GET", f"{ENDPOINT}/lineage", params={"version": 2})
    assert found["model"]["version"] == 2


def test_a_former_version_stays_loaded_however_old_it_is(world: World) -> None:
    for content in (b"one", b"two", b"three"):
        publish(world, content)
    world.ok("POST", f"{ENDPOINT}/traffic", json={"traffic": {"2": 100}})
    endpoint = publish(world, b"four")
    assert (endpoint["traffic"], endpoint["former"]) == ({"4": 100}, {"2": 100})
    world.tick(2)
    (loaded,) = world.serving.served.values()
    assert loaded == {2, 3, 4}
    assert world.ok("POST", f"{ENDPOINT}/rollback", json={})["traffic"] == {"2": 100}


def test_a_version_on_its_way_is_reached_by_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after it was verified and before it got its share."""
    publish(world, b"one")

    def dies(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(world.reconciler._publisher._records, "change", dies)
        publish(world, b"two", percent=10)
    world.services.endpoints.apply_routes()
    assert routed(world) == {1: 100}
    world.tick()
    assert routed(world) == {1: 90, 2: 10}


def test_somebody_decides_while_the_judge_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict on what is no canary any more takes nothing back."""
    publish(world, b"one")
    publish(world, b"two", percent=10, bake_seconds=3600)
    counted(world, 2, 50, errors=50)
    records = world.reconciler._baking._records
    read = records.bake

    def promoted_first(deployment: Any) -> Any:
        world.ok("POST", f"{ENDPOINT}/promote", json={})
        return read(deployment)

    monkeypatch.setattr(records, "bake", promoted_first)
    world.tick()
    assert world.ok("GET", ENDPOINT)["traffic"] == {"2": 100}


def test_metrics_of_all_are_for_admins(world: World) -> None:
    assert world.call("GET", "/gateway/metrics").status_code == 403
    answer = world.call("GET", "/gateway/metrics", "admin:root")
    assert answer.text == "envoy_server_live 1\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
