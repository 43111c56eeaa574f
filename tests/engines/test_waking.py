"""Envoy before an endpoint that sleeps: its caller waits, and is answered once it is awake."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from gateway_world import AUDIENCE, BASE, BODY, INFER, MODEL, OWNER, World, error_of, route

from aiaas_hub.adapters.waker import Waker
from aiaas_hub.schemas.errors import Unavailable

pytestmark = pytest.mark.engines

ASLEEP = replace(route((7, 100)), asleep=True)
OTHER = replace(route((7, 100)), endpoint="other", audience=f"{OWNER}/other")


class Sleeper:
    """Wakes after a while, as a model that is loaded; `refuses` says why it does not."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.woken: list[tuple[str, str]] = []
        self.refuses = ""
        self.seconds = 0.5
        self._lock = threading.Lock()

    def wake(self, owner: str, endpoint: str) -> None:
        with self._lock:
            self.woken.append((owner, endpoint))
            if self.refuses:
                raise Unavailable(self.refuses, remedy="Send it again in a moment.")
            if len(self.woken) == 1:
                time.sleep(self.seconds)
                self._world.envoy.apply([route((7, 100)), OTHER])


@pytest.fixture
def sleeper(echo: World) -> Iterator[Sleeper]:
    made = Sleeper(echo)
    waker = Waker(echo.home, made.wake)
    waker.start()
    echo.envoy.apply([ASLEEP, OTHER])
    echo.reached.clear()
    yield made
    waker.stop()
    echo.envoy.apply([route((7, 100))])


def test_who_calls_waits_and_is_answered_by_the_model(echo: World, sleeper: Sleeper) -> None:
    key = echo.key()
    began = time.monotonic()
    answer = echo.call("POST", INFER, BODY, key=key, headers={"Cookie": "secret"})
    assert time.monotonic() - began >= sleeper.seconds
    assert (answer.status, answer.headers["x-aiaas-model-version"]) == (200, "7")
    assert sleeper.woken == [(OWNER, "scale")]
    ((path, headers, body),) = echo.reached
    assert path == f"/v2/models/{MODEL}/versions/7/infer"
    assert body == BODY.encode()
    assert not {"authorization", "cookie"} & {name.lower() for name in headers}
    # From here on the service is not asked.
    assert echo.call("POST", INFER, BODY, key=key).status == 200
    assert len(sleeper.woken) == 1


def test_many_and_large_requests_wait_together(echo: World, sleeper: Sleeper) -> None:
    key = echo.key()
    large = b"x" * (40 << 20)
    binary = {"Inference-Header-Content-Length": "1"}
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(echo.call, "POST", INFER, large, key=key, headers=binary) for _ in range(4)
        ]
        calls += [pool.submit(echo.call, "POST", INFER, BODY, key=key) for _ in range(4)]
        assert [call.result().status for call in calls] == [200] * 8
    assert sorted(len(body) for _, _, body in echo.reached) == [len(BODY)] * 4 + [40 << 20] * 4


def test_only_who_may_call_wakes(echo: World, sleeper: Sleeper) -> None:
    assert echo.call("POST", INFER, BODY, key=None).status == 401
    assert echo.call("POST", INFER, BODY, key=echo.key(f"{OWNER}/other")).status == 403
    soon = datetime.now(UTC) + timedelta(minutes=5)
    metadata = echo.keys.sign(AUDIENCE, "k9", "ann", soon, "metadata")
    assert echo.call("POST", INFER, BODY, key=metadata).status == 403
    assert echo.call("DELETE", INFER, key=echo.key()).status == 404
    assert sleeper.woken == []
    # Another endpoint's callers go to Triton as ever.
    other = echo.key(f"{OWNER}/other")
    assert echo.call("POST", INFER.replace("/scale/", "/other/", 1), BODY, key=other).status == 200
    assert sleeper.woken == []
    # So do those who ask about the server.
    for path in ("/v2", "/v2/health/live"):
        assert echo.call("GET", f"{BASE}{path}", key=metadata).json["path"] == path
    assert sleeper.woken == []
    # Whether it is ready may be asked with any key.
    assert echo.call("GET", f"{BASE}/v2/health/ready", key=metadata).status == 200
    assert len(sleeper.woken) == 1


def test_what_cannot_be_woken_says_why_and_when_to_come_again(
    echo: World, sleeper: Sleeper
) -> None:
    sleeper.refuses = "There is no memory left for it."
    answer = echo.call("POST", INFER, BODY)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert error_of(answer) == "unavailable"
    assert answer.json["error"] == sleeper.refuses
    assert echo.reached == []


def test_without_the_service_its_own_callers_hear_503_and_others_nothing(echo: World) -> None:
    echo.envoy.apply([ASLEEP, OTHER])
    assert echo.call("POST", INFER, BODY).status == 503
    other = echo.key(f"{OWNER}/other")
    assert echo.call("POST", INFER.replace("/scale/", "/other/", 1), BODY, key=other).status == 200
    echo.envoy.apply([route((7, 100))])
