"""Endpoints that sleep while nobody calls them: what is wanted, and what becomes of it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from api_world import World
from canary_calls import ENDPOINT, counted

from aiaas_hub.schemas.errors import Unavailable

# What differs between the databases is in tests/contract/test_records.py.
pytestmark = pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(world: World) -> Clock:
    made = Clock()
    world.services.sleeping._now = made
    return made


def publish(world: World, onnx: bytes = b"one", idle: float | None = 60, **more: Any) -> Any:
    world.model(onnx=onnx)
    body = {"model": "cnn", "options": {"idle_seconds": idle}, **more}
    world.ok("POST", f"{ENDPOINT}/publish", json=body)
    world.tick()
    return world.ok("GET", ENDPOINT)


def look(world: World, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    world.services.sleeping.work()


def state(world: World) -> tuple[str | None, set[int], bool]:
    """As it is wanted, what is loaded, and whether the gateway asks to wake it."""
    (served,) = world.serving.served.values()
    (route,) = world.gateway.routes
    return world.ok("GET", ENDPOINT)["sleep"], served, route.asleep


ASLEEP: tuple[str, set[int], bool] = ("asleep", set(), True)


def test_nobody_calls_it_sleeps_and_the_next_call_wakes_it(world: World, clock: Clock) -> None:
    publish(world)
    counted(world, 1, 5)
    look(world, clock, 1000)
    assert state(world) == (None, {1}, False)
    look(world, clock, 59)
    assert state(world) == (None, {1}, False)
    # One call, and it begins anew.
    counted(world, 1, 6)
    look(world, clock, 59)
    look(world, clock, 59)
    assert state(world) == (None, {1}, False)
    look(world, clock, 1)
    assert state(world) == ASLEEP
    # Neither a look nor a service that begins anew loads it, and nobody asks whether it is well.
    world.tick(2)
    world.serving.calls.clear()
    world.reconciler._check_health()
    assert world.serving.calls == []
    assert state(world) == ASLEEP
    assert world.serving.installed
    look(world, clock, 1000)
    world.services.sleeping.wake("alice", "digits")
    assert state(world) == (None, {1}, False)
    world.services.sleeping.wake("alice", "digits")
    look(world, clock, 59)
    look(world, clock, 59)
    assert state(world) == (None, {1}, False)


def test_only_who_was_published_so_sleeps(world: World, clock: Clock) -> None:
    publish(world, idle=None)
    look(world, clock, 1)
    look(world, clock, 1e6)
    assert state(world) == (None, {1}, False)


def test_a_gateway_that_cannot_wake_refuses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(world.gateway), "wakes", False)
    world.model()
    body = {"model": "cnn", "options": {"idle_seconds": 60}}
    refused = world.call("POST", f"{ENDPOINT}/publish", json=body)
    assert refused.status_code == 400
    assert "do not sleep on this platform" in refused.text


def test_a_canary_keeps_it_awake_and_a_change_wakes_it(world: World, clock: Clock) -> None:
    publish(world)
    publish(world, b"two", canary={"percent": 10})
    look(world, clock, 1)
    look(world, clock, 1000)
    assert state(world) == (None, {1, 2}, False)
    world.ok("POST", f"{ENDPOINT}/promote", json={})
    world.tick()
    look(world, clock, 1)
    look(world, clock, 1000)
    assert state(world) == ASLEEP
    # Whoever rolls it back wants it to serve; its callers wait until it does.
    world.ok("POST", f"{ENDPOINT}/rollback", json={})
    asleep, served, waits = state(world)
    assert (asleep, served, waits) == ("waking", set(), True)
    world.tick()
    assert state(world) == (None, {1, 2}, False)


def test_a_new_version_wakes_it(world: World, clock: Clock) -> None:
    publish(world)
    look(world, clock, 1)
    look(world, clock, 1000)
    assert state(world) == ASLEEP
    publish(world, b"two")
    world.tick()
    assert state(world) == (None, {1, 2}, False)
    world.ok("DELETE", ENDPOINT)
    world.tick()
    assert world.ok("GET", ENDPOINT)["sleep"] is None


def test_killed_while_it_wakes(world: World, clock: Clock) -> None:
    publish(world)
    look(world, clock, 1)
    look(world, clock, 1000)
    world.serving.crash_at = "set_versions"
    with pytest.raises(SystemExit):
        world.services.sleeping._wake("alice", "digits")
    assert state(world) == ("waking", set(), True)
    world.tick()
    assert state(world) == (None, {1}, False)


def test_killed_while_it_is_put_to_sleep(world: World, clock: Clock) -> None:
    publish(world)
    look(world, clock, 1)
    world.serving.crash_at = "set_versions"
    with pytest.raises(SystemExit):
        look(world, clock, 1000)
    assert state(world) == ("asleep", {1}, True)
    world.tick()
    assert state(world) == ASLEEP


def test_what_cannot_be_woken_says_why(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world)
    look(world, clock, 1)
    look(world, clock, 1000)
    sleeping = world.services.sleeping
    world.serving.ready = False
    with pytest.raises(Unavailable, match="Triton is starting"):
        sleeping.wake("alice", "digits")
    world.serving.ready = True
    world.serving.refuse_load = {1}
    with pytest.raises(Unavailable, match="asleep and cannot be loaded"):
        sleeping.wake("alice", "digits")
    world.serving.refuse_load = set()
    monkeypatch.setattr("aiaas_hub.domain.sleeping.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(world.serving, "set_versions", lambda *_: time.sleep(0.3))
    with pytest.raises(Unavailable, match="takes long to be loaded"):
        sleeping.wake("alice", "digits")


def test_who_sleeps_leaves_its_memory_to_others(world: World, clock: Clock) -> None:
    """A budget of two and a half models."""
    sleeping = world.services.sleeping
    sleeping._memory_bytes = sleeping._publisher._memory_bytes = 250_000_000
    publish(world)
    look(world, clock, 1)
    look(world, clock, 1000)
    for name in ("second", "third"):
        endpoint = world.published(name, onnx=name.encode())
        assert endpoint["state"] == "serving", endpoint
    with pytest.raises(Unavailable, match="others have its memory now"):
        world.services.sleeping.wake("alice", "digits")
    assert world.ok("GET", ENDPOINT)["sleep"] == "asleep"
    world.ok("DELETE", "/endpoints/alice/third")
    world.tick()
    world.services.sleeping.wake("alice", "digits")
    assert world.ok("GET", ENDPOINT)["sleep"] is None
    # And it counts again.
    assert world.published("fourth", onnx=b"fourth")["state"] == "failed"
