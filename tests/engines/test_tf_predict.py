"""Clients of TensorFlow Serving before Envoy, the translator and Triton: nothing is changed but the
address and the key."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import requests
from gateway_world import AUDIENCE, BASE, MODEL, World, error_of, route, wait_ready

from aiaas_hub.domain.ports import RouteTarget
from aiaas_hub.schemas.platform import EngineState

pytestmark = pytest.mark.engines

ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def session(world: World, scope: str = "infer") -> requests.Session:
    expires = datetime.now(UTC) + timedelta(minutes=10)
    made = requests.Session()
    made.headers["Authorization"] = (
        f"Bearer {world.keys.sign(AUDIENCE, 'k1', 'ann', expires, scope)}"
    )
    return made


def address(world: World) -> str:
    return f"{world.envoy.url}{BASE}/v1/models"


def test_predict_by_rows_and_by_columns(world: World) -> None:
    """As tutorials of TensorFlow Serving write it."""
    world.envoy.apply([route((2, 100))])
    client, url = session(world), f"{address(world)}/scale"
    data = json.dumps({"signature_name": "serving_default", "instances": ROWS})
    answer = client.post(f"{url}:predict", data=data, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == [
        {"y": [2.0, 4.0, 6.0], "total": [12.0]},
        {"y": [8.0, 10.0, 12.0], "total": [30.0]},
    ]
    assert answer.headers["x-aiaas-model-version"] == "2"
    assert answer.headers["content-type"] == "application/json"
    whole = client.post(f"{url}:predict", json={"inputs": {"x": ROWS}}).json()["outputs"]
    assert whole["y"] == [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]
    # It is counted as every call is.
    before = world.envoy.traffic()[MODEL, 2]
    bad = client.post(f"{url}:predict", json={"instances": [[1.0]]})
    assert bad.status_code == 400
    assert bad.json()["error"].startswith("x has shape [1, 1], the model takes")
    after = world.envoy.traffic()[MODEL, 2]
    assert (after.requests - before.requests, after.refused - before.refused) == (1, 1)


def test_status_and_metadata(world: World) -> None:
    client, url = session(world, "metadata"), f"{address(world)}/scale"
    fine = {"error_code": "OK", "error_message": ""}
    for path in (url, f"{url}/versions/1"):
        assert client.get(path).json() == {
            "model_version_status": [{"version": "1", "state": "AVAILABLE", "status": fine}]
        }
    world.envoy.apply([route((1, 100), (2, 0))])
    other = client.get(f"{url}/versions/2")
    assert other.json()["model_version_status"][0]["version"] == "2"
    assert client.get(f"{url}/versions/3").status_code == 404
    found = client.get(f"{url}/metadata").json()
    assert found["model_spec"] == {"name": "scale", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    dims = signature["inputs"]["x"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", "3"]


def test_a_version_in_the_path_is_that_version_for_who_may_choose(world: World) -> None:
    world.envoy.apply([route((1, 100), (2, 0))])
    chooses, plain = session(world, "versions"), session(world)
    url = f"{address(world)}/scale/versions"
    for version in (1, 2):
        answer = chooses.post(f"{url}/{version}:predict", json={"instances": ROWS})
        assert answer.headers["x-aiaas-model-version"] == str(version)
        assert answer.json()["predictions"][0]["y"] == [version, 2 * version, 3 * version]
    named = {"x-aiaas-version": "2"}
    answer = chooses.post(f"{address(world)}/scale:predict", json={"inputs": ROWS}, headers=named)
    assert answer.headers["x-aiaas-model-version"] == "2"
    assert chooses.post(f"{url}/3:predict", json={"instances": ROWS}).status_code == 404
    assert plain.post(f"{url}/2:predict", json={"instances": ROWS}).status_code == 403


def test_no_key_another_key_and_other_paths(world: World) -> None:
    for key, status in ((None, 401), (world.key("bob/scale"), 403), ("rubbish", 401)):
        answer = world.call("POST", f"{BASE}/v1/models/m:predict", "{}", key=key)
        assert answer.status == status
        error_of(answer)
    reads = session(world, "metadata")
    assert reads.post(f"{address(world)}/m:predict", json={}).status_code == 403
    for method, path in (
        ("POST", "/v1/models/m:classify"),
        ("POST", "/v1/models/m/versions/1/labels/x:predict"),
        ("GET", "/v1/models/m:predict"),
        ("POST", "/v1/models/a/b:predict"),
        ("GET", "/v1"),
    ):
        assert error_of(world.call(method, BASE + path, "{}")) == "not_found"
    # More than the other JSON, and not without end.
    rows = json.dumps({"instances": [[1.5, 2.5, 3.5]] * 200, "more": "x" * (2 << 20)})
    assert world.call("POST", f"{BASE}/v1/models/m:predict", rows).status == 200
    assert world.call("POST", f"{BASE}/v1/models/m:predict", "1" * (9 << 20)).status == 413


def test_a_shadow_gets_copies_of_these_requests_too(world: World) -> None:
    copies = RouteTarget(MODEL, 3, 100)
    world.envoy.apply([replace(route((1, 100), (3, 0)), shadow=copies)])
    before = world.triton.counts(MODEL)[3].requests
    client = session(world)
    for _ in range(5):
        answer = client.post(f"{address(world)}/scale:predict", json={"instances": ROWS})
        assert answer.headers["x-aiaas-model-version"] == "1"
    deadline = time.monotonic() + 30
    while world.triton.counts(MODEL)[3].requests < before + 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_translator_that_was_killed(world: World) -> None:
    """Inference of the other protocol goes on; its callers hear in its words what is wrong."""
    process = world.supervisor.process("translator")
    assert process is not None
    world.supervisor.stop("translator")
    try:
        answer = world.call("POST", f"{BASE}/v1/models/m:predict", json.dumps({"inputs": ROWS}))
        assert (answer.status, error_of(answer)) == (503, "unavailable")
        assert world.call("GET", f"{BASE}/v2/health/ready").status == 200
        assert world.translator.health().state is EngineState.UNAVAILABLE
    finally:
        world.translator.start()
        wait_ready(world.translator)
    answer = world.call("POST", f"{BASE}/v1/models/m:predict", json.dumps({"inputs": ROWS}))
    assert answer.status == 200
