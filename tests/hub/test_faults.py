"""Processes killed at bad moments, on the real platform: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest
from running_platform import RunningPlatform
from service_calls import SLOW_TRAINING, ServiceCalls, until

pytestmark = pytest.mark.platform


@pytest.fixture(scope="module")
def ada(platform: RunningPlatform) -> Iterator[ServiceCalls]:
    calls = ServiceCalls.of(platform, "ada")
    yield calls
    for endpoint in calls.ok("GET", "/endpoints")["items"]:
        calls.call("DELETE", f"/endpoints/ada/{endpoint['name']}")


def find(platform: RunningPlatform, matches: Callable[[list[str]], bool]) -> psutil.Process:
    (found,) = [p for p in platform.processes() if matches(p.cmdline())]
    return found


def service(platform: RunningPlatform) -> psutil.Process:
    return find(platform, lambda argv: argv[-2:] == ["-m", "aiaas_hub.app"])


def engine(platform: RunningPlatform, name: str) -> psutil.Process:
    record = json.loads((platform.home.processes / f"{name}.json").read_text())
    return psutil.Process(record["pid"])


def kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def trained(platform: RunningPlatform, ada: ServiceCalls) -> str:
    """A run during which the service was killed."""
    run = ada.submit(SLOW_TRAINING, params={"steps": 40})
    ada.run_until(run, "running")
    victim = service(platform)
    kill(victim)
    begun = time.monotonic()
    until(lambda: ada.call("GET", f"/runs/{run}"), lambda found: True, 60)
    print(f"service killed while training: answers again after {time.monotonic() - begun:.1f} s")
    assert service(platform).pid != victim.pid
    return run


def test_a_run_outlives_the_service(ada: ServiceCalls, trained: str) -> None:
    found = ada.run_until(trained, "succeeded")
    assert found["attempt"] == 1
    metrics = ada.ok("GET", f"/runs/{trained}/metrics")["points"]
    assert [point["step"] for point in metrics] == list(range(40))
    log = ada.ok("GET", f"/runs/{trained}/logs")
    assert log["complete"]
    steps = [line for line in log["text"].splitlines() if "step " in line]
    assert [int(line.rpartition(" ")[2]) for line in steps] == list(range(40))
    assert [m["name"] for m in ada.ok("GET", "/models")["items"]] == ["slow"]


def test_a_publish_outlives_the_service(
    platform: RunningPlatform, ada: ServiceCalls, trained: str
) -> None:
    ada.run_until(trained, "succeeded")
    ada.ok("POST", "/endpoints/ada/doubles/publish", json={"run": trained})
    kill(service(platform))
    begun = time.monotonic()
    found = ada.endpoint_until("doubles", "serving")
    print(f"service killed while publishing: serving after {time.monotonic() - begun:.1f} s")
    assert (found["traffic"], len(found["versions"])) == ({"1": 100}, 1)
    answer = ada.predict("doubles")
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6]
    assert answer.headers["x-aiaas-model-version"] == "1"
    assert len(ada.ok("GET", "/models")["items"]) == 1


@pytest.mark.parametrize("name", ["triton", "envoy"])
def test_a_killed_engine_answers_again(
    platform: RunningPlatform, ada: ServiceCalls, trained: str, name: str
) -> None:
    found = ada.endpoint_until("doubles", "serving")
    token = ada.ok("POST", "/endpoints/ada/doubles/token")["token"]
    assert ada.predict("doubles", token).is_success
    victim = engine(platform, name)
    kill(victim)
    begun = time.monotonic()
    answer = until(
        lambda: ada.predict("doubles", token),
        lambda found: engine(platform, name).pid != victim.pid,
        60,
    )
    print(f"{name} killed while serving: answers again after {time.monotonic() - begun:.1f} s")
    assert answer["outputs"][0]["data"] == [2, 4, 6]
    assert ada.ok("GET", "/endpoints/ada/doubles")["versions"] == found["versions"]


def test_inference_goes_on_without_hub_service_and_proxy(
    platform: RunningPlatform, ada: ServiceCalls, trained: str
) -> None:
    ada.endpoint_until("doubles", "serving")
    token = ada.ok("POST", "/endpoints/ada/doubles/token")["token"]
    victim = service(platform)
    victim.suspend()
    try:
        for _ in range(20):
            assert ada.predict("doubles", token).is_success
    finally:
        victim.resume()


def test_two_users_have_nothing_to_do_with_each_other(
    platform: RunningPlatform, ada: ServiceCalls, trained: str
) -> None:
    ada.endpoint_until("doubles", "serving")
    bob = ServiceCalls.of(platform, "bob")
    key = ada.ok("POST", "/endpoints/ada/doubles/keys", json={})
    for method, path in (
        ("GET", f"/runs/{trained}"),
        ("GET", f"/runs/{trained}/logs"),
        ("POST", f"/runs/{trained}/cancel"),
        ("GET", "/models/ada/slow"),
        ("GET", "/endpoints/ada/doubles"),
        ("DELETE", "/endpoints/ada/doubles"),
        ("POST", "/endpoints/ada/doubles/token"),
        ("GET", "/endpoints/ada/doubles/keys"),
        ("DELETE", f"/endpoints/ada/doubles/keys/{key['id']}"),
    ):
        assert bob.call(method, path).status_code == 404, (method, path)
    for kind in ("runs", "models", "endpoints"):
        assert bob.ok("GET", f"/{kind}")["items"] == []
    # A model of somebody else's cannot be published either.
    stolen = bob.call("POST", "/endpoints/bob/mine/publish", json={"model": "ada/slow"})
    assert stolen.status_code == 404
    assert ada.predict("doubles", key["token"]).is_success
    ada.ok("DELETE", f"/endpoints/ada/doubles/keys/{key['id']}")
    refused = until_refused(ada, key["token"])
    assert refused.status_code == 403
    assert ada.predict("doubles", bob.token).status_code == 401


def until_refused(calls: ServiceCalls, token: str) -> httpx.Response:
    """A revoked key is refused within a second."""
    deadline = time.monotonic() + 1
    while (answer := calls.predict("doubles", token)).is_success:
        assert time.monotonic() < deadline, "still accepted"
    return answer


def test_an_admin_may_see_everybody_and_a_revoked_token_nothing(
    platform: RunningPlatform, ada: ServiceCalls, trained: str
) -> None:
    visitor = ServiceCalls.of(platform, "carol")
    assert visitor.ok("GET", "/me")["user"] == "carol"
    with platform.session("carol") as session:
        session.http.get("/hub/home").raise_for_status()
        headers = {"X-XSRFToken": session.xsrf("/hub/")}
        listed = session.http.get("/hub/api/users/carol/tokens", headers=headers).json()
        for token in listed["api_tokens"]:
            path = f"/hub/api/users/carol/tokens/{token['id']}"
            session.http.delete(path, headers=headers).raise_for_status()
    assert visitor.call("POST", "/blobs", content=b"x").status_code == 401
