"""Models and endpoints over HTTP, and the publish protocol's decisions."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from api_world import World
from safetensors.numpy import save

from aiaas_hub.domain.ports import DoesNotAnswer
from aiaas_hub.schemas.errors import Unavailable


def test_publish_serves_with_parity_and_lineage(world: World) -> None:
    endpoint = world.published()
    assert (endpoint["state"], endpoint["traffic"]) == ("serving", {"1": 100})
    assert endpoint["url"] == "http://127.0.0.1:1/alice/digits"
    parity = endpoint["versions"][0]["parity"]
    assert (parity["max_abs"], parity["rows"], parity["batches"]) == (0.0, 4, [1, 3, 256])
    assert parity["rows_per_second"] > 0
    (route,) = world.gateway.routes
    assert (route.owner, route.audience) == ("alice", "alice/digits")
    assert [(t.version, t.percent) for t in route.targets] == [(1, 100)]
    assert world.serving.served[route.targets[0].model] == {1}
    lineage = world.ok("GET", "/endpoints/alice/digits/lineage")
    assert lineage["endpoint_version"] == 1
    assert lineage["model"] == {"owner": "alice", "name": "cnn", "version": 1}


def test_the_former_version_stays_loaded_and_older_ones_go(world: World) -> None:
    for number in (1, 2, 3):
        world.published(onnx=f"onnx {number}".encode())
        world.tick()
    (route,) = world.gateway.routes
    # The former one has no share, and can be asked for by its version.
    assert [(t.version, t.percent) for t in route.targets] == [(2, 0), (3, 100)]
    name = route.targets[0].model
    assert world.serving.served == {name: {2, 3}}
    assert world.serving.installed == {(name, 2), (name, 3)}


def test_equal_content_is_the_same_model_version(world: World) -> None:
    assert world.model()["version"] == 1
    assert world.model()["version"] == 1
    assert world.model(onnx=b"another")["version"] == 2


@pytest.mark.parametrize(
    ("onnx", "offset", "words"),
    [(b"broken", 0.0, "does not load"), (b"fine", 0.5, "differ from the source")],
)
def test_a_failed_publish_leaves_the_former_route(
    world: World, onnx: bytes, offset: float, words: str
) -> None:
    world.published()
    before = world.gateway.routes
    after = world.published(onnx=onnx, offset=offset)
    assert after["state"] == "failed"
    assert words in after["versions"][0]["error"]
    assert after["traffic"] == {"1": 100}
    assert world.gateway.routes == before
    world.tick()
    assert {version for _, version in world.serving.installed} == {1}
    # The next one gets a number of its own.
    assert world.published(onnx=b"third")["traffic"] == {"3": 100}


def test_a_first_publish_that_fails_leaves_nothing(world: World) -> None:
    endpoint = world.published(onnx=b"broken")
    assert (endpoint["state"], endpoint["traffic"]) == ("failed", {})
    world.tick()
    assert world.gateway.routes == []
    assert world.serving.installed == set()


def test_held_out_rows_must_fit_the_signature(world: World) -> None:
    import numpy as np

    body = world.hand_over()
    rows = save({"input.x": np.zeros((2, 3)), "output.output": np.zeros((2, 3), np.float32)})
    body["evaluation"] = world.upload(rows)
    world.ok("POST", "/models/alice/cnn/versions", json=body)
    world.ok("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    world.tick()
    endpoint = world.ok("GET", "/endpoints/alice/digits")
    assert "float64[3], its signature says float32" in endpoint["versions"][0]["error"]


@pytest.mark.parametrize("step", ["stage", "install", "set_versions", "infer"])
def test_killed_at_each_step_of_a_publish(world: World, step: str) -> None:
    """The service dies in a step; what comes back finishes the one version."""
    world.serving.crash_at = step
    world.model()
    world.ok("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    world.tick()
    assert world.ok("GET", "/endpoints/alice/digits")["traffic"] == {}
    world.tick()
    endpoint = world.ok("GET", "/endpoints/alice/digits")
    assert (endpoint["state"], endpoint["traffic"]) == ("serving", {"1": 100})
    assert len(endpoint["versions"]) == 1
    assert {version for _, version in world.serving.installed} == {1}


def test_killed_between_route_and_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(_routes: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(world.gateway, "apply", dies)
        world.model()
        world.ok("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
        with pytest.raises(SystemExit):
            world.tick()
    world.tick()
    assert world.ok("GET", "/endpoints/alice/digits")["state"] == "serving"
    assert len(world.gateway.routes) == 1


def test_publishing_waits_for_triton(world: World) -> None:
    world.serving.ready = False
    world.model()
    world.ok("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    with pytest.raises(Exception, match="Triton is starting"):
        world.tick()
    assert world.ok("GET", "/endpoints/alice/digits")["state"] == "staging"
    busy = world.call("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    assert busy.status_code == 409
    world.serving.ready = True
    world.tick()
    assert world.ok("GET", "/endpoints/alice/digits")["state"] == "serving"


def test_triton_that_came_back_empty_is_filled_again(world: World) -> None:
    world.published()
    before = dict(world.serving.served)
    world.serving.served.clear()
    world.tick()
    assert world.serving.served == before


def test_retire_takes_route_models_and_keys(world: World) -> None:
    world.published()
    world.ok("POST", "/endpoints/alice/digits/keys", json={})
    retired = world.ok("DELETE", "/endpoints/alice/digits")
    assert (retired["state"], retired["traffic"]) == ("retired", {})
    assert world.gateway.routes == []
    world.tick()
    assert world.serving.installed == set()
    (key,) = world.ok("GET", "/endpoints/alice/digits/keys")["items"]
    assert key["revoked_at"] is not None
    assert world.call("POST", "/endpoints/alice/digits/token").status_code == 409
    # Its name may be used again, with the next number.
    assert world.published(onnx=b"again")["traffic"] == {"2": 100}


def test_a_key_is_shown_once_and_revoked_at_the_gateway(world: World) -> None:
    world.published()
    headers = {"Idempotency-Key": "a-key-for-a-key"}
    key = world.ok("POST", "/endpoints/alice/digits/keys", json={"note": "ci"}, headers=headers)
    assert key["token"].startswith("signed:alice/digits:")
    again = world.ok("POST", "/endpoints/alice/digits/keys", json={"note": "ci"}, headers=headers)
    assert again["id"] == key["id"]
    (listed,) = world.ok("GET", "/endpoints/alice/digits/keys")["items"]
    assert listed["token"] is None
    world.ok("DELETE", f"/endpoints/alice/digits/keys/{key['id']}")
    assert world.gateway.routes[0].revoked == [key["id"]]
    assert world.call("DELETE", "/endpoints/alice/digits/keys/nope").status_code == 404


def test_a_run_without_a_model_cannot_be_published(world: World) -> None:
    run = world.submit()
    response = world.call("POST", "/endpoints/alice/digits/publish", json={"run": run["id"]})
    assert response.status_code == 409
    assert response.json()["error"]["remedy"] == f"Wait for it: %aiaas attach {run['id']}"
    both = {"run": run["id"], "model": "cnn"}
    assert world.call("POST", "/endpoints/alice/digits/publish", json=both).status_code == 400


def test_what_it_waits_for_is_said(world: World) -> None:
    world.serving.ready = False
    world.model()
    world.ok("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    with pytest.raises(Exception, match="Triton is starting"):
        world.tick()
    version = world.ok("GET", "/endpoints/alice/digits")["versions"][0]
    assert (version["state"], version["reason"]) == ("staging", "Triton is starting")
    world.serving.ready = True
    world.tick()
    version = world.ok("GET", "/endpoints/alice/digits")["versions"][0]
    assert (version["state"], version["reason"]) == ("serving", "")


@pytest.mark.parametrize("step", ["stage", "install", "set_versions"])
def test_a_publish_waits_for_room_on_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/of/ours")

    before = world.published()["versions"][0]["state"]
    with monkeypatch.context() as patch:
        patch.setattr(world.serving, step, full)
        waiting = world.published(onnx=b"second")["versions"][0]
    assert waiting["state"] in ("staging", "verifying")
    assert waiting["reason"].startswith("The platform's disk is full.")
    assert world.ok("GET", "/endpoints/alice/digits")["traffic"] == {"1": 100}
    world.tick()
    endpoint = world.ok("GET", "/endpoints/alice/digits")
    assert (endpoint["traffic"], endpoint["versions"][0]["state"]) == ({"2": 100}, before)


def test_where_nothing_can_be_served_publishing_says_so_at_once(world: World) -> None:
    world.model()
    world.serving.impossible = True
    answer = world.call("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "Triton has no wheel for this machine."
    assert world.call("GET", "/endpoints/alice/digits").status_code == 404


def test_a_model_that_dies_while_it_is_verified_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise DoesNotAnswer("it is gone")

    monkeypatch.setattr(world.serving, "infer", dies)
    endpoint = world.published()
    assert endpoint["state"] == "failed"
    assert "It was verified with batches" in endpoint["versions"][0]["error"]


def test_unreadable_held_out_rows_fail_the_version(world: World) -> None:
    body = world.hand_over()
    body["evaluation"] = world.upload(b"no safetensors")
    world.ok("POST", "/models/alice/cnn/versions", json=body)
    world.ok("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    world.tick()
    version = world.ok("GET", "/endpoints/alice/digits")["versions"][0]
    assert version["state"] == "failed"
    assert "not a readable safetensors file" in version["error"]


def test_retired_while_it_is_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The retirement comes between the check and the route: nothing is routed."""
    records = world.reconciler._publisher._records
    change = records.change

    def retired_first(*arguments: Any, **keywords: Any) -> bool:
        records.retire("alice", "digits", "alice")
        return change(*arguments, **keywords)

    monkeypatch.setattr(records, "change", retired_first)
    endpoint = world.published()
    assert (endpoint["state"], endpoint["traffic"]) == ("retired", {})
    assert world.gateway.routes == []
    world.tick()
    assert world.serving.installed == set()


def test_one_endpoint_that_cannot_be_mended_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.published("first")
    world.published("second")
    names = [route.targets[0].model for route in world.gateway.routes]
    set_versions = world.serving.set_versions

    def poisoned(model: str, *rest: Any) -> None:
        if model == names[0]:
            raise RuntimeError("poisoned")
        set_versions(model, *rest)

    monkeypatch.setattr(world.serving, "set_versions", poisoned)
    world.serving.served.clear()
    world.tick()
    assert set(world.serving.served) == {names[1]}


def test_a_dead_model_is_healed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.published()

    def dead(*_: object) -> None:
        raise DoesNotAnswer("it is gone")

    monkeypatch.setattr(world.serving, "infer", dead)
    world.serving.calls.clear()
    world.reconciler._check_health()
    assert world.serving.calls == ["heal"]


def test_a_version_published_during_convergence_keeps_its_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convergence has read what there is; a new endpoint and a new version come; it goes on."""
    world.published("first")
    publisher, records = world.reconciler._publisher, world.reconciler._publisher._records
    routed = records.routed
    calls = 0

    def then_publish() -> Any:
        nonlocal calls
        found = routed()
        calls += 1
        if calls == 2:  # the first is for the gateway's routes
            world.model(onnx=b"second")
            for name in ("first", "second"):
                world.ok("POST", f"/endpoints/alice/{name}/publish", json={"model": "cnn"})
            for deployment in records.unsettled():
                publisher.publish(deployment)
        return found

    monkeypatch.setattr(records, "routed", then_publish)
    publisher.converge()
    assert calls >= 2
    for name, version in (("first", 2), ("second", 1)):
        endpoint = world.ok("GET", f"/endpoints/alice/{name}")
        assert endpoint["traffic"] == {str(version): 100}
        (model,) = {
            target.model
            for route in world.gateway.routes
            if route.endpoint == name
            for target in route.targets
        }
        assert (model, version) in world.serving.installed
        assert version in world.serving.served[model]


def test_a_gateway_that_refuses_does_not_keep_models_from_triton(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.published()
    before = dict(world.serving.served)
    world.serving.served.clear()

    def refuse(_routes: object) -> None:
        raise Unavailable("Envoy is starting")

    monkeypatch.setattr(world.gateway, "apply", refuse)
    with pytest.raises(Unavailable):
        world.tick()
    assert world.serving.served == before


def test_an_endpoint_has_at_most_so_many_keys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiaas_hub.adapters.records.endpoint_keys.MAX_KEYS", 2)
    world.published()
    for _ in range(2):
        world.ok("POST", "/endpoints/alice/digits/keys", json={})
    refused = world.call("POST", "/endpoints/alice/digits/keys", json={})
    assert refused.status_code == 409


def test_lineage_ends_where_the_right_to_read_does(world: World) -> None:
    """An admin of one publishes another's model; the first one's readers learn no more."""
    run = world.submit("user:bob", params={"secret": "bob's"})
    token = world.run_token(run)
    handed = world.hand_over("user:bob")
    path = f"/runs/{run['id']}/job"
    assert world.call("PUT", f"{path}/model", token, json=handed).is_success
    body = {"model": "bob/cnn"}
    world.ok("POST", "/endpoints/alice/shown/publish", "admin:root", json=body)
    world.tick()
    seen = world.call("GET", "/endpoints/alice/shown/lineage").text
    assert "bob's" not in seen
    assert run["id"] not in seen
    everything = world.call("GET", "/endpoints/alice/shown/lineage", "admin:root").text
    assert "bob's" in everything


def test_held_out_rows_have_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiaas_hub.domain.models.MAX_EVALUATION_BYTES", 10)
    answer = world.call("POST", "/models/alice/cnn/versions", json=world.hand_over())
    assert answer.status_code == 413


def test_the_same_key_adds_one_version(world: World) -> None:
    headers = {"Idempotency-Key": "the-same-key"}
    first = world.hand_over()
    path = "/models/alice/cnn/versions"
    assert world.ok("POST", path, json=first, headers=dict(headers))["version"] == 1
    assert world.model(onnx=b"another")["version"] == 2
    assert world.ok("POST", path, json=first, headers=dict(headers))["version"] == 1
    labelled = {**first, "signature": {**first["signature"], "labels": ["a", "b", "c"]}}
    assert world.ok("POST", path, json=labelled)["version"] == 3
