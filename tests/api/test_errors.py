"""The one error shape."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from api_world import PREFIX, World


def shape(response: Any) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "remedy", "request_id"}
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    found: dict[str, Any] = body["error"]
    return found


def test_every_kind_of_error_has_the_same_shape(world: World) -> None:
    assert shape(world.call("GET", "/runs/run-none"))["code"] == "not_found"
    assert shape(world.call("GET", "/nowhere"))["code"] == "not_found"
    assert shape(world.call("PATCH", "/runs"))["code"] == "invalid"
    assert shape(world.call("POST", "/runs", json={"name": 3}))["code"] == "invalid"
    assert shape(world.call("GET", "/runs", token=None))["code"] == "unauthenticated"
    large = world.call("POST", "/runs", content=b"[" * (9 << 20))
    assert (shape(large)["code"], large.status_code) == ("too_large", 413)


def test_strangers_get_nothing_parsed(world: World) -> None:
    refused = world.call("POST", "/runs", token=None, content=b"{ no JSON")
    assert (refused.status_code, shape(refused)["code"]) == (401, "unauthenticated")


def test_our_own_defects_tell_only_an_id(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a secret path /home/alice")

    monkeypatch.setattr(world.training, "health", broken)
    with caplog.at_level(logging.ERROR):
        response = world.call("GET", "/me", headers={"X-Request-Id": "look-me-up-123"})
    error = shape(response)
    assert (response.status_code, error["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert error["request_id"] == "look-me-up-123"
    assert "look-me-up-123" in caplog.text
    assert "a secret path" in caplog.text


def test_a_request_id_cannot_forge_a_log_line(world: World) -> None:
    response = world.call("GET", "/runs/none", headers={"X-Request-Id": "a b\t<script>"})
    assert "script" not in shape(response)["request_id"]


def test_the_description_is_complete(world: World) -> None:
    described = world.client.get(f"{PREFIX}api/v1/openapi.json").json()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert "default" in operation["responses"], (method, path)


def test_a_database_that_somebody_holds_is_503_and_reads_go_on(world: World) -> None:
    with world.database.transaction() as session:
        session.connection()
        refused = world.call("POST", "/blobs", content=b"x")
        assert (refused.status_code, shape(refused)["code"]) == (503, "unavailable")
        assert world.ok("GET", "/runs")["items"] == []
    assert world.upload(b"x")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/runs/{run}/metrics?since=18446744073709551616"),
        ("GET", "/runs/{run}/logs?offset=18446744073709551616"),
        ("GET", "/datasets/alice/digits?version=18446744073709551616"),
        ("GET", "/models/alice/cnn?version=18446744073709551616"),
    ],
)
def test_numbers_beyond_the_databases(world: World, method: str, path: str) -> None:
    run = world.submit()["id"]
    assert shape(world.call(method, path.format(run=run)))["code"] == "invalid"
