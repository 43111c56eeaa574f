"""Copies of live requests for a shadow: what it gets, and that nobody gets its answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from gateway_world import AUDIENCE, BODY, INFER, MODEL, OWNER, World, route

from aiaas_hub.adapters import run_directory
from aiaas_hub.domain.ports import Route, RouteTarget

pytestmark = pytest.mark.engines

COPIES = RouteTarget(MODEL, 2, 100)


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_shadow_gets_copies_and_its_answers_are_nobodys(world: World) -> None:
    world.envoy.apply([replace(route((1, 100), (2, 0)), shadow=COPIES)])
    runs = world.triton.counts(MODEL)[2].requests
    before = world.envoy.traffic().get((MODEL, 2))
    first = before.requests if before else 0
    key = world.key()
    answers = [world.call("POST", INFER, BODY, key=key) for _ in range(20)]
    assert {a.headers["x-aiaas-model-version"] for a in answers} == {"1"}
    assert all(answer.json["outputs"][0]["data"] == [1, 2, 3] for answer in answers)
    assert {answer.json["model_version"] for answer in answers} == {"1"}
    # Counted as a version's own requests are, and answered by the very version.
    wait(lambda: world.envoy.traffic()[MODEL, 2].requests == first + 20)
    assert world.triton.counts(MODEL)[2].requests == runs + 20
    assert world.envoy.traffic()[MODEL, 2].errors == (before.errors if before else 0)
    wait(lambda: max(world.envoy.traffic()[MODEL, 2].latencies.values(), default=0) >= first + 20)
    # What is asked by number, of metadata, or without a key, is not copied.
    world.call("GET", f"{INFER.removesuffix('/infer')}/ready", key=key)
    world.call("POST", INFER, BODY, key=None)
    world.envoy.apply([route((1, 100))])
    world.call("POST", INFER, BODY, key=key)
    time.sleep(0.3)
    assert world.triton.counts(MODEL)[2].requests == runs + 20


def test_what_a_shadow_does_is_not_felt(echo: World) -> None:
    """It is slow, and then it breaks off; callers are answered by the version that serves."""
    targets = [RouteTarget(MODEL, 7, 100), RouteTarget(MODEL, 9, 0)]
    shadow = RouteTarget(MODEL, 9, 100)
    echo.envoy.apply([Route(OWNER, "scale", targets, AUDIENCE, shadow=shadow)])
    echo.reached.clear()
    mine = echo.key()
    headers = {"x-test": "broken", "Cookie": "session=secret"}
    answers = [echo.call("POST", INFER, BODY, key=mine, headers=headers) for _ in range(10)]
    assert {(a.status, a.headers["x-aiaas-model-version"]) for a in answers} == {(200, "7")}
    seven, nine = (f"/v2/models/{MODEL}/versions/{v}/infer" for v in (7, 9))
    assert {answer.json["path"] for answer in answers} == {seven}
    wait(lambda: echo.envoy.traffic()[MODEL, 9].errors == 10)
    copies = [(head, body) for path, head, body in echo.reached if path == nine]
    # Each is tried again, as a request is that was never read.
    assert len(copies) >= 10
    for head, body in copies:
        assert body == BODY.encode()
        # The caller's key stays with the gateway.
        assert mine not in json.dumps(head)
        assert "session=secret" not in json.dumps(head)
    assert echo.envoy.traffic()[MODEL, 7].errors == 0


def test_copies_beyond_the_limit_are_left_out_and_take_nobodys_turn(echo: World) -> None:
    """Of an owner here four requests may be in Triton and eight wait, and as many copies."""
    shadow = RouteTarget(MODEL, 9, 100)
    echo.envoy.apply([replace(route((7, 100), (9, 0)), shadow=shadow)])
    mine = echo.key()
    answers = []

    def call() -> None:
        answers.append(echo.call("POST", INFER, BODY, key=mine, headers={"x-test": "slow"}))

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # None is refused: the copies, which are as slow, are in nobody's way.
    assert [answer.status for answer in answers] == [200] * 12


def test_a_part_of_the_requests_is_copied(echo: World) -> None:
    shadow = RouteTarget(MODEL, 9, 30)
    echo.envoy.apply([replace(route((7, 100), (9, 0)), shadow=shadow)])
    echo.reached.clear()
    mine = echo.key()
    for _ in range(300):
        assert echo.call("POST", INFER, BODY, key=mine).status == 200
    time.sleep(0.3)
    copied = sum("/versions/9/" in path for path, _, _ in echo.reached)
    # Four standard deviations of 300 draws.
    assert abs(copied / 300 - 0.3) < 4 * (0.3 * 0.7 / 300) ** 0.5


def test_nobody_else_reaches_the_listener_for_copies(echo: World) -> None:
    socket = run_directory.path_of(echo.home) / "envoy" / "mirror"
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o777 == 0o700
