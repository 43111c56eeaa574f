"""How a version is served: what was asked for, and the memory that there is."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import World

from aiaas_hub.domain.endpoints import IMAGE_BATCH, PROMPT_BATCH

# What differs between the databases is in tests/contract/test_records.py.
pytestmark = pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)

OPTIONS = {
    "instances": 3,
    "max_batch": 2,
    "warm_up": True,
    "timeout_seconds": 2.5,
    "batch_delay": 5,
}


def publish(world: World, name: str = "digits", **body: Any) -> Any:
    world.model(onnx=repr(body).encode())
    world.ok("POST", f"/endpoints/alice/{name}/publish", json={"model": "cnn", **body})
    world.tick()
    return world.ok("GET", f"/endpoints/alice/{name}")


def test_options_stay_with_their_version_and_reach_the_engines(world: World) -> None:
    publish(world)
    former = next(iter(world.serving.served))
    world.serving.batches.clear()
    endpoint = publish(world, options=OPTIONS)
    newest, before = endpoint["versions"]
    assert newest["options"] == {
        **OPTIONS,
        "precision": None,
        "idle_seconds": None,
        "batch_delay": 5.0,
    }
    assert before["options"] == {
        "instances": None,
        "max_batch": None,
        "warm_up": False,
        "timeout_seconds": None,
        "precision": None,
        "idle_seconds": None,
        "batch_delay": None,
    }
    assert newest["parity"]["batches"] == [1, 2]
    assert newest["parity"]["memory_bytes"] == 3 * before["parity"]["memory_bytes"] == 300_000_000
    # Three calls of the largest batch and of one row for each instance come first.
    assert world.serving.batches[:18] == [2] * 9 + [1] * 9

    (route,) = world.gateway.routes
    assert {t.version: t.timeout_seconds for t in route.targets} == {1: None, 2: 2.5}
    # Triton has one configuration for a model: the version before keeps its own.
    models = {t.version: t.model for t in route.targets}
    assert models[1] == former != models[2]
    assert world.serving.options[models[1]].instances is None
    assert world.serving.options[models[2]].instances == 3
    # As after a restart of Triton.
    world.serving.served.clear()
    world.serving.options.clear()
    world.tick()
    assert world.serving.options[models[2]].max_batch == 2
    again = world.ok("POST", "/endpoints/alice/digits/rollback", json={})
    assert again["traffic"] == {"1": 100}


def test_images_come_a_few_at_a_time(world: World) -> None:
    """Where nobody says how many: each may be megabytes."""
    image = {"name": "image", "dtype": "string", "shape": [1], "kind": "image"}
    scores = {"name": "output", "dtype": "float32", "shape": [2]}
    signature = {"inputs": [image], "outputs": [scores]}
    handed_over = {**world.hand_over(), "signature": signature}
    world.ok("POST", "/models/alice/cnn/versions", json=handed_over)
    for name, said, found in (("few", None, IMAGE_BATCH), ("many", 64, 64)):
        body = {"model": "cnn", "options": {"max_batch": said}}
        endpoint = world.ok("POST", f"/endpoints/alice/{name}/publish", json=body)
        assert endpoint["versions"][0]["options"]["max_batch"] == found


def test_prompts_are_held_out_a_few_at_a_time_and_come_as_precise_as_they_are(
    world: World,
) -> None:
    string = {"dtype": "string", "shape": [1]}
    logits = {"name": "logits", "dtype": "float32", "shape": [2]}
    completion = {"name": "completion", "kind": "completion", **string}
    prompt = {"name": "prompt", "kind": "prompt", **string}
    signature = {"inputs": [prompt], "outputs": [logits, completion]}
    handed_over = {**world.hand_over(), "signature": signature}
    world.ok("POST", "/models/alice/gpt/versions", json=handed_over)
    endpoint = world.ok("POST", "/endpoints/alice/chat/publish", json={"model": "gpt"})
    assert endpoint["versions"][0]["options"]["max_batch"] == PROMPT_BATCH
    body = {"model": "gpt", "options": {"precision": "int8"}}
    refused = world.call("POST", "/endpoints/alice/other/publish", json=body)
    assert refused.status_code == 400
    assert "in the precision that it comes in" in refused.json()["error"]["message"]
    body = {"model": "gpt", "options": {"batch_delay": 5}}
    refused = world.call("POST", "/endpoints/alice/other/publish", json=body)
    assert refused.status_code == 400
    assert "takes turns" in refused.json()["error"]["message"]


def test_a_bake_asks_in_batches_that_both_versions_take(world: World) -> None:
    publish(world)
    canary = {"percent": 50, "bake_seconds": 3600}
    publish(world, canary=canary, options={"max_batch": 1})
    world.tick()
    (version, _) = world.ok("GET", "/endpoints/alice/digits")["versions"]
    assert (version["bake"]["rows"], version["bake"]["disagreement"]) == (4, 0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"instances": 0},
        {"max_batch": 257},
        {"timeout_seconds": 0},
        {"timeout_seconds": 121},
        {"instances": "many"},
        {"batch_delay": -1},
        {"batch_delay": 1001},
        {"batch_delay": "sometimes"},
        {"batch_delay": 50, "timeout_seconds": 0.05},
    ],
)
def test_options_that_cannot_be_meant(world: World, options: dict[str, Any]) -> None:
    world.model()
    body = {"model": "cnn", "options": options}
    refused = world.call("POST", "/endpoints/alice/digits/publish", json=body)
    assert refused.status_code == 400
    assert next(iter(options)) in refused.text


def test_a_publish_that_would_not_fit_is_refused_with_its_numbers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.reconciler._publisher, "_memory_bytes", 550_000_000)
    publish(world, options={"instances": 2})
    # What serves counts until it is narrowed away, and the version before it as well.
    assert publish(world, options={"instances": 3})["traffic"] == {"2": 100}
    installed = set(world.serving.installed)

    other = publish(world, "other", options={"instances": 2})
    assert (other["state"], other["traffic"]) == ("failed", {})
    error = other["versions"][0]["error"]
    assert error.startswith(
        "The model takes 100 MB of memory in each of 2 instances, 200 MB together, and of the "
        "550 MB for served models 50 MB are left. Publish it with fewer --instances, retire an "
    )
    assert "serving_memory_bytes" in error
    assert world.serving.calls[-1] == "discard"
    assert world.serving.installed == installed
    single = publish(world, "other")["versions"][0]["error"]
    assert single.startswith("The model takes 100 MB of memory and of the 550 MB for served ")
    assert "Retire an endpoint that nobody calls" in single

    world.ok("DELETE", "/endpoints/alice/digits")
    world.tick()
    assert publish(world, "other", options={"instances": 5})["state"] == "serving"


def test_a_version_that_is_staged_again_is_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.reconciler._publisher, "_memory_bytes", 100_000_000)
    install = world.serving.install

    def killed_right_after(*arguments: Any) -> None:
        install(*arguments)
        monkeypatch.setattr(world.serving, "install", install)
        raise SystemExit

    monkeypatch.setattr(world.serving, "install", killed_right_after)
    assert publish(world)["state"] == "staging"
    assert len(world.serving.installed) == 1
    world.tick()
    assert world.ok("GET", "/endpoints/alice/digits")["state"] == "serving"
