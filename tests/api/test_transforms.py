"""A transform's run on the service's side: what is committed, when, by whom and how often."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import World

SOURCE = "def train(ctx): ..."
"""Of `World.submit`."""
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


def steps(world: World, path: str, token: str = "user:alice") -> list[tuple[str, str, bool]]:
    """(version, what made it, whether its run is told) of a lineage."""
    found = world.ok("GET", f"/datasets/{path}/lineage", token)
    return [
        (
            f"{step['dataset']['owner']}/{step['dataset']['name']}@{step['dataset']['version']}",
            step["origin"]["kind"] if step["readable"] else "unreadable",
            step["run"] is not None,
        )
        for step in found["steps"]
    ]


def test_lineage_goes_up_through_queries_and_runs_to_the_upload(world: World) -> None:
    run = submit(world)
    token = world.run_token(run)
    commit(world, run, token, {"clean": world.upload(parquet(8), token)})
    for sql in ("SELECT y FROM clean", "SELECT a.y FROM clean a JOIN digits d ON a.y = d.x"):
        world.ok("POST", "/datasets/alice/few/versions", json={"query": sql})
    # What became of a source does not change what something was made of.
    world.dataset(rows=9)
    world.ok("PATCH", "/datasets/alice/digits/versions/1", json={"retired": True})
    made = [("alice/clean@1", "run", True), ("alice/digits@1", "upload", False)]
    assert steps(world, "alice/clean") == made
    few, *others = steps(world, "alice/few")
    assert (few, sorted(others)) == (("alice/few@2", "query", False), made)
    step = world.ok("GET", "/datasets/alice/few/lineage?version=1")["steps"][1]
    assert (step["run"]["id"], step["run"]["snapshot"]["source"]) == (run["id"], SOURCE)
    # The whole of it is answered, or it is said that it is not.
    assert world.ok("GET", "/datasets/alice/few/lineage")["truncated"] is False


def test_a_long_lineage_says_that_there_is_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiaas_hub.domain.lineage.MAX_STEPS", 1)
    world.dataset()
    world.ok("POST", "/datasets/alice/few/versions", json={"query": "SELECT x FROM digits"})
    found = world.ok("GET", "/datasets/alice/few/lineage")
    assert (len(found["steps"]), found["truncated"]) == (1, True)
    # What is not told is not led to.
    assert [(node["kind"], node["of"]) for node in found["nodes"]] == [
        ("query", []),
        ("dataset", ["query:alice/few@1"]),
    ]


def test_who_reads_a_dataset_reads_neither_its_code_nor_its_sources(world: World) -> None:
    run = submit(world)
    token = world.run_token(run)
    commit(world, run, token, {"clean": world.upload(parquet(8), token)})
    path = "/datasets/alice/clean"
    assert world.call("GET", f"{path}/lineage", "user:bob").status_code == 404
    world.ok("PATCH", path, json={"visibility": "everyone"})
    assert steps(world, "alice/clean", "user:bob") == [
        ("alice/clean@1", "run", False),
        ("alice/digits@1", "unreadable", False),
    ]
    seen = world.call("GET", f"{path}/lineage", "user:bob").text
    assert SOURCE not in seen
    assert SOURCE in world.call("GET", f"{path}/lineage", "admin:root").text


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
