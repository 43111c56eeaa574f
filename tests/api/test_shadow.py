"""Shadows over HTTP: copies without a share, their numbers, promotion and rollback."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import World
from canary_calls import ENDPOINT, counted, history, later, publish, routed

# What differs between the databases is in tests/contract/test_records.py.
pytestmark = pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)


def copies(world: World) -> tuple[int, int] | None:
    (route,) = world.gateway.routes
    return None if route.shadow is None else (route.shadow.version, route.shadow.percent)


def shadowed(world: World, **plan: Any) -> Any:
    publish(world, b"one")
    return publish(world, b"two", percent=100, shadow=True, **plan)


def test_a_shadow_gets_copies_and_no_share(world: World) -> None:
    endpoint = shadowed(world)
    assert (endpoint["state"], endpoint["traffic"]) == ("canary", {"1": 100})
    assert endpoint["former"] == {}
    assert (routed(world), copies(world)) == ({1: 100, 2: 0}, (2, 100))
    action, by, after = history(world)[0]
    assert (action, by, after) == ("shadow", "alice", {"1": 100})
    world.model(onnx=b"three")
    busy = world.call("POST", f"{ENDPOINT}/publish", json={"model": "cnn"})
    assert busy.status_code == 409


def test_a_shadow_is_watched_whoever_judges_it(world: World) -> None:
    shadowed(world)
    world.tick()
    counted(world, 1, 900, errors=1)
    counted(world, 2, 890, errors=400, ms=1000.0)
    world.tick(2)
    endpoint = world.ok("GET", ENDPOINT)
    bake = endpoint["versions"][0]["bake"]
    assert (bake["ends_at"], bake["decision"], bake["former_version"]) == (None, None, 1)
    assert (bake["canary"]["requests"], bake["canary"]["errors"]) == (890, 400)
    # What the serving version did before the first look is not compared.
    assert bake["former"]["requests"] == 900
    assert (bake["disagreement"], bake["rows"]) == (0.0, 4)
    # However bad it is, it harms nobody: it waits for somebody's word.
    assert endpoint["state"] == "canary"
    found = world.ok("GET", f"{ENDPOINT}/statistics")["versions"]
    assert [(v["version"], v["percent"], v["mirrored"], v["errors"]) for v in found] == [
        (2, 0, 100, 400),
        (1, 100, 0, 1),
    ]


def test_promoting_a_shadow_can_be_taken_back(world: World) -> None:
    shadowed(world)
    promoted = world.ok("POST", f"{ENDPOINT}/promote", json={})
    assert (promoted["traffic"], promoted["former"]) == ({"2": 100}, {"1": 100})
    assert (routed(world), copies(world)) == ({1: 0, 2: 100}, None)
    assert world.ok("POST", f"{ENDPOINT}/rollback", json={})["traffic"] == {"1": 100}


def test_rolling_back_a_shadow_touches_no_traffic(world: World) -> None:
    publish(world, b"zero")
    shadowed(world)
    assert world.ok("GET", ENDPOINT)["former"] == {"1": 100}
    back = world.ok("POST", f"{ENDPOINT}/rollback", json={"why": "too slow"})
    assert (back["state"], back["traffic"], back["former"]) == ("failed", {"2": 100}, {"1": 100})
    assert back["versions"][0]["error"] == "Rolled back by alice: too slow"
    assert copies(world) is None
    # The next one is of the version that serves.
    assert world.ok("POST", f"{ENDPOINT}/rollback", json={})["traffic"] == {"1": 100}


def test_a_shadow_with_a_share_is_a_canary(world: World) -> None:
    shadowed(world)
    split = world.ok("POST", f"{ENDPOINT}/traffic", json={"traffic": {"1": 90, "2": 10}})
    assert (split["traffic"], split["former"]) == ({"1": 90, "2": 10}, {"1": 100})
    assert copies(world) is None
    back = world.ok("POST", f"{ENDPOINT}/rollback", json={})
    assert (back["traffic"], back["state"]) == ({"1": 100}, "failed")


@pytest.mark.parametrize(("errors", "state"), [(0, "serving"), (50, "failed")])
def test_a_bake_decides_on_copies(
    world: World, monkeypatch: pytest.MonkeyPatch, errors: int, state: str
) -> None:
    shadowed(world, bake_seconds=60)
    world.tick()
    counted(world, 2, 100, errors=errors)
    later(world, 61, monkeypatch)
    world.tick()
    endpoint = world.ok("GET", ENDPOINT)
    assert endpoint["state"] == state
    assert endpoint["traffic"] == ({"1": 100} if errors else {"2": 100})


def test_only_a_shadow_may_have_all(world: World) -> None:
    publish(world, b"one")
    body = {"model": "cnn", "canary": {"percent": 100}}
    refused = world.call("POST", f"{ENDPOINT}/publish", json=body)
    assert refused.status_code == 400
    assert "only a shadow" in refused.json()["error"]["message"]


def test_a_first_version_is_no_shadow(world: World) -> None:
    endpoint = publish(world, b"one", percent=100, shadow=True)
    assert (endpoint["state"], endpoint["traffic"]) == ("serving", {"1": 100})
    assert copies(world) is None
