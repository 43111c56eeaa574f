"""A transform's run on the service's side: what is committed, when, by whom and how often."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from api_world import World

SPLIT = {"target": "clean", "split": {"train": 0.8, "test": 0.2}}


def submit(world: World, transform: dict[str, Any] | None = None, **changes: Any) -> Any:
    world.dataset()
    options = {"kind": "transform", "name": "clean", "datasets": ["digits"], **changes}
    return world.submit(transform=transform or {"target": "clean"}, **options)


def parquet(rows: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"y": list(range(rows))}), sink)
    return sink.getvalue()


def commit(world: World, run: Any, token: str, contents: dict[str, str]) -> Any:
    path = f"/runs/{run['id']}/job/datasets"
    return world.call("PUT", path, token, json={"contents": contents})


def names(world: World) -> list[str]:
    return sorted(one["name"] for one in world.ok("GET", "/datasets")["items"])


def test_a_split_is_committed_all_at_once_with_its_lineage(world: World) -> None:
    run = submit(world, SPLIT)
    token = world.run_token(run)
    train = world.upload(parquet(8), token)
    test = world.upload(parquet(2), token)
    assert names(world) == ["digits"], "nothing is visible before the end"

    # One of the two is not there: then neither is.
    for missing in ("0" * 64, world.upload(parquet(3), "user:bob")):
        refused = commit(world, run, token, {"clean-train": train, "clean-test": missing})
        assert refused.status_code == 404
    broken = world.upload(b"no Parquet", token)
    assert commit(world, run, token, {"clean-train": train, "clean-test": broken}).is_client_error
    for wrong in ({"clean": train}, {"clean-train": train}, {"x": train, "clean-test": test}):
        assert commit(world, run, token, wrong).status_code in (400, 422)
    assert names(world) == ["digits"]

    made = commit(world, run, token, {"clean-train": train, "clean-test": test}).json()
    assert [(one["name"], one["latest"]["rows"]) for one in made] == [
        ("clean-train", 8),
        ("clean-test", 2),
    ]
    origin = made[0]["latest"]["origin"]
    source = {"owner": "alice", "name": "digits", "version": 1}
    assert (origin["kind"], origin["run"], origin["inputs"]) == ("run", run["id"], [source])
    shown = world.ok("GET", f"/runs/{run['id']}")
    assert [(one["name"], one["version"]) for one in shown["made"]] == [
        ("clean-train", 1),
        ("clean-test", 1),
    ]


def test_a_repeat_makes_no_second_version_even_of_other_content(world: World) -> None:
    run = submit(world)
    token = world.run_token(run)
    first = commit(world, run, token, {"clean": world.upload(parquet(3), token)}).json()
    # Meanwhile somebody stores another version, and the attempt, not heard of, begins again.
    blob = world.upload(parquet(9))
    world.ok("POST", "/datasets/alice/clean/versions", json={"blob": blob})
    again = commit(world, run, token, {"clean": world.upload(parquet(4), token)}).json()
    assert [one["latest"]["version"] for one in (*first, *again)] == [1, 1]
    versions = world.ok("GET", "/datasets/alice/clean/versions")["items"]
    assert [one["version"] for one in versions] == [2, 1]


def test_a_run_that_is_cancelled_commits_nothing(world: World) -> None:
    run = submit(world)
    token = world.run_token(run)
    blob = world.upload(parquet(3), token)
    world.ok("POST", f"/runs/{run['id']}/cancel")
    assert commit(world, run, token, {"clean": blob}).status_code == 409
    assert names(world) == ["digits"]


def test_only_a_transform_commits_and_only_its_own(world: World) -> None:
    world.dataset()
    training = world.submit(datasets=["digits"])
    token = world.run_token(training)
    blob = world.upload(parquet(1), token)
    assert commit(world, training, token, {"clean": blob}).is_client_error
    run = submit(world)
    assert commit(world, run, token, {"clean": blob}).status_code == 401
    assert commit(world, run, "user:alice", {"clean": blob}).status_code == 401
    assert names(world) == ["digits"]


def test_what_is_no_transform_is_refused(world: World) -> None:
    world.dataset()
    body = {
        "name": "clean",
        "kind": "transform",
        "transform": {"target": "clean"},
        "datasets": ["digits"],
        "snapshot": world.submit()["snapshot"],
    }
    changes: list[dict[str, Any]] = [
        {"kind": "train"},
        {"transform": None},
        {"datasets": []},
        {"datasets": ["digits", "digits"]},
        {"transform": {"target": "clean", "split": {"train": 0.5}}},
        {"transform": {"target": "bob/clean"}},
    ]
    for change in changes:
        answer = world.call("POST", "/runs", json={**body, **change})
        assert answer.json()["error"]["code"] == "invalid", change
    world.ok("POST", "/runs", json=body)


def test_somebody_elses_dataset_is_no_source(world: World) -> None:
    world.dataset("secret", "user:bob")
    body = {
        "name": "clean",
        "kind": "transform",
        "transform": {"target": "clean"},
        "datasets": ["bob/secret"],
        "snapshot": world.submit()["snapshot"],
    }
    assert world.call("POST", "/runs", json=body).status_code == 404


def test_a_transform_is_not_gone_on_with(world: World) -> None:
    run = submit(world)
    token = world.run_token(run)
    world.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "started"})
    world.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "succeeded"})
    answer = world.call("POST", f"/runs/{run['id']}/resume", json={})
    assert answer.status_code == 409
    assert "all or nothing" in answer.json()["error"]["message"]
