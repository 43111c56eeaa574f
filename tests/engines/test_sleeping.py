"""An endpoint that sleeps and wakes, with everything between its caller and its model."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_world import wait_ready
from serving_platform import Platform, X, platform_on, platform_running, wait

from aiaas_hub.home import Home

pytestmark = pytest.mark.engines


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with platform_running(Home(tmp_path / "home")) as made:
        yield made


def test_it_sleeps_and_the_next_call_wakes_it(platform: Platform) -> None:
    platform.publish(2.0, idle=2)
    platform.publish(3.0, idle=None, name="other")
    key, others = platform.key(), platform.key("other")
    assert platform.call(key).status_code == 200
    loaded = platform.instances()
    wait(platform.is_asleep)
    # Its memory is free, and its files are where they were.
    wait(lambda: platform.instances() == loaded - 1)
    assert platform.endpoint("other").sleep is None
    assert platform.call(others, "other").status_code == 200
    assert platform.is_asleep()
    # Many at once, and all of them are answered by the model.
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: platform.call(key, rows=1 + n % 3), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        values: Any = answer.json()["outputs"][0]["data"]
        np.testing.assert_allclose(values, 2 * X.ravel()[: len(values)], rtol=1e-6)
    assert platform.endpoint().sleep is None
    assert platform.instances() == loaded
    # And once more, with a new version that finds it asleep.
    wait(platform.is_asleep)
    platform.publish(5.0, idle=2)
    answer = platform.call(key)
    assert (answer.status_code, answer.headers["x-aiaas-model-version"]) == (200, "2")


def test_whoever_begins_anew_it_sleeps_on_and_wakes(platform: Platform) -> None:
    platform.publish(2.0, idle=2)
    key = platform.key()
    wait(platform.is_asleep)
    # Triton and Envoy are killed, and the reconciler starts them.
    for name in ("triton", "envoy"):
        process = platform.supervisor.process(name)
        assert process is not None
        os.kill(process.pid, 9)
        wait(lambda name=name, old=process.pid: _is_new(platform, name, old))  # type: ignore[misc]
    wait_ready(platform.triton)
    wait_ready(platform.envoy)
    time.sleep(3)
    assert platform.is_asleep()
    assert platform.instances() == 0
    # The service is away: its callers hear it, and nobody is given a wrong answer.
    platform.end()
    assert platform.call(key).status_code == 503
    again = platform_on(platform.home)
    again.begin()
    try:
        time.sleep(3)
        assert again.is_asleep()
        assert again.instances() == 0
        answer = again.call(key)
        assert (answer.status_code, answer.headers["x-aiaas-model-version"]) == (200, "1")
    finally:
        again.end()


def test_nobody_is_refused_while_it_falls_asleep_again_and_again(platform: Platform) -> None:
    platform.publish(2.0, idle=1)
    key = platform.key()
    statuses: list[int] = []
    over = threading.Event()

    def caller(pause: float) -> None:
        while not over.wait(pause):
            statuses.append(platform.call(key).status_code)

    threads = [threading.Thread(target=caller, args=(pause,)) for pause in (4.1, 4.3)]
    for thread in threads:
        thread.start()
    fell, slept, ends = 0, False, time.monotonic() + 30
    while time.monotonic() < ends:
        sleeps = platform.is_asleep()
        fell, slept = fell + (sleeps and not slept), sleeps
        time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert len(statuses) >= 8
    assert fell >= 3


def _is_new(platform: Platform, name: str, old: int) -> bool:
    process = platform.supervisor.process(name)
    return process is not None and process.pid != old
