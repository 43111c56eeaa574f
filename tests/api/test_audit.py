"""Who did what: every changing route is in the audit log, and nothing happens that is not."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from api_world import PREFIX, World
from sqlalchemy import event

from aiaas_hub.api.auditing import UNRECORDED
from aiaas_hub.domain.auditing import verify


def log(world: World, token: str = "admin:root", **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.ok("GET", "/audit", token, params=query)["items"]
    return found[::-1]


def operations(world: World) -> Iterator[tuple[str, str, str]]:
    described = world.client.get(f"{PREFIX}api/v1/openapi.json").json()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if method not in ("get", "parameters"):
                name = operation["operationId"].partition("_services_")[0]
                yield method.upper(), path.removeprefix(f"{PREFIX}api/v1"), name


def test_every_changing_route_is_recorded_or_says_why_not(world: World) -> None:
    run = world.submit()
    job = world.run_token(run)
    # Whatever else a path names: "1" is a name, a number and an id.
    parts = defaultdict(lambda: "1", owner="alice", name="x", run_id=run["id"])
    recorded = set()
    for method, path, name in operations(world):
        token = job if "/job" in path else "user:alice"
        before = len(log(world, limit=500))
        world.call(method, path.format_map(parts), token, json={})
        new = log(world, limit=500)[before:]
        if name in UNRECORDED:
            assert not new, name
            continue
        assert [entry["act"] for entry in new] == [name, name], (method, path)
        assert new[0]["outcome"] == "begun"
        assert new[0]["request_id"] == new[1]["request_id"]
        assert {entry["owner"] for entry in new} == {"alice"}
        recorded.add(name)
    assert len(recorded) >= 14
    assert set(UNRECORDED) <= {name for _, _, name in operations(world)}


def test_an_entry_says_who_what_when_from_where_and_how_it_ended(world: World) -> None:
    dataset = world.dataset()
    begun, done = log(world, act="add_dataset_version")
    assert done | {"number": 0, "at": "", "previous": "", "hash": "", "request_id": ""} == {
        "number": 0,
        "at": "",
        "actor": "alice",
        "via": "api",
        "act": "add_dataset_version",
        "object": "datasets/alice/digits",
        "owner": "alice",
        "outcome": "done",
        "request_id": "",
        "origin": "127.0.0.1",
        "detail": {"status": 201, "owner": "alice", "name": dataset["name"]},
        "previous": "",
        "hash": "",
    }
    assert begun["number"] == done["number"] - 1
    run = world.submit()
    assert log(world, act="submit_run")[-1]["detail"]["id"] == run["id"]
    world.ok("POST", f"/runs/{run['id']}/cancel", headers={"X-Request-Id": "of-the-notebook"})
    cancelled = log(world, object=f"runs/{run['id']}")
    assert [(e["act"], e["outcome"]) for e in cancelled] == [
        ("cancel_run", "begun"),
        ("cancel_run", "done"),
    ]
    assert {e["request_id"] for e in cancelled} == {"of-the-notebook"}
    assert not verify(world.services.audit).problem


def test_what_was_refused_is_recorded_with_who_tried(world: World) -> None:
    run = world.submit()
    assert world.call("POST", f"/runs/{run['id']}/cancel", "user:bob").status_code == 404
    entry = log(world, actor="bob")[-1]
    assert (entry["outcome"], entry["owner"], entry["detail"]) == (
        "refused",
        "alice",
        {"status": 404},
    )


def test_a_run_acts_for_its_owner(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    world.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "started"})
    assert [(e["via"], e["actor"], e["act"]) for e in log(world, act="report_job_event")] == [
        ("run", "alice", "report_job_event")
    ] * 2


def test_the_address_is_what_our_proxy_saw(world: World) -> None:
    world.call("POST", "/blobs", content=b"x", headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.7"})
    assert log(world)[-1]["origin"] == "192.0.2.7"
    world.call("POST", "/blobs", content=b"x", headers={"X-Forwarded-For": "6.6.6.6, <script>"})
    assert log(world)[-1]["origin"] in ("", "127.0.0.1")


def test_what_cannot_be_recorded_does_not_happen_and_reads_go_on(world: World) -> None:
    if world.database.engine.dialect.name != "sqlite":
        pytest.skip("what raises is written in SQLite's words")
    run = world.submit()
    submitted = len(log(world, limit=500))
    # The table is made unwritable, and nothing else: the act itself could be done.
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON audit "
            "BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
        )
    for method, path in (
        ("POST", f"/runs/{run['id']}/cancel"),
        ("DELETE", "/endpoints/alice/nothing"),
        ("POST", "/blobs"),
    ):
        answer = world.call(method, path)
        assert answer.status_code == 503, (path, answer.text)
        assert "audit log" in answer.json()["error"]["message"]
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "queued"
    assert len(log(world, limit=500)) == submitted
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    world.ok("POST", f"/runs/{run['id']}/cancel")


def test_a_locked_database_refuses_changes_and_answers_reads(world: World) -> None:
    if world.database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL waits for its own lock in the same way, see the records' tests")
    run = world.submit()
    holder = sqlite3.connect(world.home.root / "../records.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert world.call("POST", f"/runs/{run['id']}/cancel").status_code == 503
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "queued"
    holder.execute("ROLLBACK")
    holder.close()
    world.ok("POST", f"/runs/{run['id']}/cancel")


def test_a_full_disk_refuses_changes_and_answers_reads(world: World) -> None:
    if world.database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's disk is not this test's to fill")
    run = world.submit()
    request = {"name": "next", "snapshot": {**run["snapshot"], "source": "#" * 50_000}}

    def fill(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # as many as there are

    event.listen(world.database.engine, "connect", fill)
    world.database.engine.dispose()
    for _ in range(1000):
        refused = world.call("POST", f"/runs/{run['id']}/cancel")
        if refused.status_code != 200:
            break
    assert refused.status_code == 503
    assert "disk is full" in refused.json()["error"]["message"]
    refused = world.call("POST", "/runs", json=request)
    assert refused.status_code == 503
    assert "make room" in refused.json()["error"]["remedy"]
    assert [one["id"] for one in world.ok("GET", "/runs")["items"]] == [run["id"]]
    event.remove(world.database.engine, "connect", fill)
    world.database.engine.dispose()
    world.ok("POST", f"/runs/{run['id']}/cancel")
    assert world.ok("POST", "/runs", json=request)["state"] == "queued"


def test_users_see_what_was_done_to_theirs_and_nothing_else(world: World) -> None:
    world.dataset(token="user:alice")
    world.dataset(token="user:bob")
    assert {entry["owner"] for entry in log(world, "user:bob")} == {"bob"}
    assert {entry["owner"] for entry in log(world)} == {"alice", "bob"}
    assert world.call("GET", "/audit?owner=alice", "user:bob").status_code == 404
    assert {e["owner"] for e in log(world, owner="alice")} == {"alice"}


@pytest.mark.parametrize(
    "query", ["since=2026-01-01T00:00:00", "cursor=x", "outcome=x", "object=%00", "limit=0"]
)
def test_a_search_that_cannot_be_meant_is_refused(world: World, query: str) -> None:
    assert world.call("GET", f"/audit?{query}").status_code == 400


def test_no_secret_is_in_an_entry(world: World) -> None:
    world.published()
    key = world.ok("POST", "/endpoints/alice/digits/keys", json={"note": "canary-note"})
    token = world.ok("POST", "/endpoints/alice/digits/token")
    world.submit(params={"password": "canary-parameter"})
    everything = json.dumps(log(world, limit=500))
    for secret in (key["token"], token["token"], "canary-note", "canary-parameter", "user:alice"):
        assert secret not in everything
    assert key["id"] in everything
