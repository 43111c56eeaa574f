"""Every route for each of {owner, other, admin, anonymous, revoked, reader, cookie}.

The routes are those of the application itself: a new one is tested the day it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from api_world import PREFIX, World, serving

from aiaas_hub.api.application import VERSION_PREFIX
from aiaas_hub.app import PYTHON
from aiaas_hub.home import Home

BASE = f"{PREFIX.rstrip('/')}{VERSION_PREFIX}"
OF_ALL = {f"{BASE}/gateway/metrics"}
"""What tells of all owners' things: for admins."""
PUBLIC = {f"{BASE}/health", f"{BASE}/openapi.json"}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, str]]]:
    """A world in which alice has one of everything."""
    directory = tmp_path_factory.mktemp("stocked")
    url = f"sqlite:///{directory / 'records.sqlite'}"
    with serving(Home(directory / "home"), url) as world:
        world.dataset("thing")
        world.ok("PUT", "/datasets/alice/thing/tags/golden", json={"version": 1})
        world.model("thing")
        world.ok("POST", "/endpoints/alice/thing/publish", json={"model": "thing"})
        world.tick()
        key = world.ok("POST", "/endpoints/alice/thing/keys", json={})
        world.ok("PUT", "/secrets/alice/thing", json=BODIES["/secrets/{owner}/{name}"])
        run = world.submit(datasets=["thing"])
        token = world.run_token(run)
        written = world.ok("POST", "/blobs", token, content=b"of a worker")["digest"]
        body = {"worker": 0, "digest": written}
        path = f"/runs/{run['id']}/job/event-files"
        assert world.call("PUT", path, token, json=body).status_code == 204
        parts = {
            "owner": "alice",
            "name": "thing",
            "run_id": run["id"],
            "key_id": key["id"],
            "alias": "champion",
            "index": "0",
            "attempt": "1",
            "worker": "0",
            "version": "1",
            "tag": "golden",
            "digest": "0" * 64,
        }
        yield world, parts


def routes(world: World) -> list[tuple[str, str]]:
    described = world.client.get(f"{BASE}/openapi.json").json()
    found = [
        (method.upper(), path)
        for path, operations in described["paths"].items()
        for method in operations
        if method != "parameters" and path not in PUBLIC
    ]
    assert len(found) > 30
    return sorted(found)


BODIES: dict[str, Any] = {
    "/secrets/{owner}/{name}": {"kind": "https", "values": {"token": "t"}},
    "/runs/plan": {
        "name": "cnn",
        "snapshot": {"digest": "0" * 64, "python": PYTHON, "client": "0"},
    },
    "/runs/{run_id}/resume": {"params": {"lr": 1}},
    "/datasets/{owner}/{name}/versions": {"uri": "/nowhere.csv"},
    "/datasets/{owner}/{name}": {"licence": "CC0"},
    "/datasets/{owner}/{name}/versions/{version}": {"retired": False},
    "/datasets/{owner}/{name}/tags/{tag}": {"version": 1},
    "/models/{owner}/{name}/versions": {
        "onnx": "0" * 64,
        "evaluation": "0" * 64,
        "signature": {
            "inputs": [{"name": "x", "dtype": "float32", "shape": []}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": []}],
        },
        "export_max_abs": 0,
    },
    "/endpoints/{owner}/{name}/publish": {"model": "nothing"},
    "/models/{owner}/{name}/aliases/{alias}": {"version": 1},
    "/models/{owner}/{name}/card": {},
    "/endpoints/{owner}/{name}/keys": {},
    "/endpoints/{owner}/{name}/traffic": {"traffic": {"1": 100}},
    "/endpoints/{owner}/{name}/promote": {},
    "/endpoints/{owner}/{name}/rollback": {},
}


def call(world: World, parts: dict[str, str], method: str, path: str, **headers: str) -> Any:
    body = BODIES.get(path.removeprefix(BASE))
    return world.client.request(
        method, path.format(**parts), headers=headers, json=body, timeout=10
    )


def is_job(path: str) -> bool:
    return "/job" in path


def test_nobody_and_the_revoked_get_nothing(stocked: tuple[World, dict[str, str]]) -> None:
    world, parts = stocked
    world.identity.revoked.add("user:gone")
    for method, path in routes(world):
        for headers in (
            {},
            {"Cookie": "jupyterhub-services=user:alice; token=user:alice"},
            {"Authorization": "Bearer user:gone"},
            {"Authorization": "Bearer nonsense"},
            {"Authorization": "Basic user:alice"},
        ):
            response = call(world, parts, method, path, **headers)
            assert response.status_code == 401, (method, path, headers, response.text)
            assert "token" in response.json()["error"]["message"]
        in_url = call(world, parts, method, f"{path}?token=user:alice")
        assert in_url.status_code == 401, (method, path)


def test_others_see_what_is_not_there(stocked: tuple[World, dict[str, str]]) -> None:
    """Somebody else's object and one that does not exist get the very same answer."""
    world, parts = stocked
    absent = {**parts, "run_id": "run-aaaaaaaaaa"}
    compared = 0
    for method, path in routes(world):
        headers = {"Authorization": "Bearer user:bob", "X-Request-Id": "the-same-id"}
        response = call(world, parts, method, path, **headers)
        if is_job(path):
            assert response.status_code == 401, (method, path)
        elif "{" in path:
            assert response.status_code == 404, (method, path, response.text)
            if "{run_id}" in path:
                other = call(world, absent, method, path, **headers)
                assert other.json() == response.json(), (method, path)
                compared += 1
        else:
            assert "alice" not in response.text, (method, path)
    assert compared >= 7
    for query in ("datasets", "runs", "models", "endpoints"):
        response = world.call("GET", f"/{query}?owner=alice", "user:bob")
        assert response.status_code == 404


def test_a_reader_changes_nothing(stocked: tuple[World, dict[str, str]]) -> None:
    world, parts = stocked
    changing = [(m, p) for m, p in routes(world) if m != "GET" and not is_job(p)]
    assert len(changing) >= 11
    for method, path in changing:
        response = call(world, parts, method, path, Authorization="Bearer reader:alice")
        # An empty body may be refused before the scope is looked at, but nothing may succeed.
        allowed = (403,) if "{" in path or path.endswith("/blobs") else (400, 403)
        assert response.status_code in allowed, (method, path, response.text)


def test_owner_and_admin_may(stocked: tuple[World, dict[str, str]]) -> None:
    world, parts = stocked
    destructive = [(m, p) for m, p in routes(world) if m == "DELETE"]
    assert len(destructive) == 5
    for token in ("user:alice", "admin:root"):
        for method, path in routes(world):
            if is_job(path) or (method, path) in destructive or path.endswith("/events"):
                continue
            response = call(world, parts, method, path, Authorization=f"Bearer {token}")
            if path in OF_ALL and not token.startswith("admin:"):
                assert response.status_code == 403, (token, method, path)
                continue
            # Reached: whatever was wrong with the request, it was not who asked.
            assert response.status_code not in (401, 403), (token, method, path)
            if method == "GET":
                assert response.status_code == 200, (token, method, path, response.text)
    for method, path in destructive[::-1]:
        response = call(world, parts, method, path, Authorization="Bearer admin:root")
        assert response.status_code == 200, (method, path, response.text)


def test_what_changes_something_asks_the_hub_afresh(world: World) -> None:
    world.identity.fresh.clear()
    world.ok("GET", "/runs")
    world.dataset()
    assert world.identity.fresh == [False, True, True]
