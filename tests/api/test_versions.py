"""Versions: their names, what made them, how they differ, and when their content goes."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import World

from aiaas_hub.adapters.records.garbage import SqlGarbageRecords
from aiaas_hub.domain.collecting import Collecting

DATASET = "/datasets/alice/digits"


def store(world: World, table: pa.Table, name: str = "digits") -> Any:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    body = {"blob": world.upload(sink.getvalue())}
    return world.ok("POST", f"/datasets/alice/{name}/versions", json=body)["latest"]


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["message"])


def test_a_tag_is_a_version_wherever_one_is_named(world: World) -> None:
    world.dataset(rows=5)
    world.dataset(rows=6)
    tagged = world.ok("PUT", f"{DATASET}/tags/golden", json={"version": 1})
    assert (tagged["latest"]["version"], tagged["latest"]["tags"]) == (1, ["golden"])
    for version, rows in {"golden": 5, "latest": 6, "1": 5, "v2": 6}.items():
        assert world.ok("GET", f"{DATASET}?version={version}")["latest"]["rows"] == rows
        shown = world.ok("GET", f"{DATASET}/preview?version={version}")
        assert shown["total_rows"] == rows
        sql = {"sql": "FROM {{digits@" + version + "}}"}
        assert world.call("POST", "/queries", json=sql).headers["x-aiaas-rows"] == str(rows)
        run = world.submit(datasets=[f"digits@{version}"])
        assert run["datasets"][0]["version"] == rows - 4
    # A tag moves; runs keep the version that it meant.
    world.ok("PUT", f"{DATASET}/tags/golden", json={"version": 2})
    assert world.ok("GET", f"{DATASET}?version=golden")["latest"]["version"] == 2
    assert world.ok("GET", "/datasets")["items"][0]["latest"]["tags"] == ["golden"]
    assert world.ok("DELETE", f"{DATASET}/tags/golden")["latest"]["tags"] == []
    assert "digits@golden" in refused(world.call("GET", f"{DATASET}?version=golden"), 404)


@pytest.mark.parametrize(
    ("tag", "version", "status"),
    [("latest", 1, 400), ("v2", 1, 400), ("7", 1, 400), ("a b", 1, 400), ("ok", 9, 404)],
)
def test_a_tag_that_cannot_be(world: World, tag: str, version: int, status: int) -> None:
    world.dataset()
    refused(world.call("PUT", f"{DATASET}/tags/{tag}", json={"version": version}), status)
    assert world.ok("GET", DATASET)["latest"]["tags"] == []


def test_a_retired_version_is_out_of_use_and_taken_back(world: World) -> None:
    world.dataset(rows=5)
    world.dataset(rows=6)
    world.ok("PUT", f"{DATASET}/tags/golden", json={"version": 2})
    world.ok("PATCH", f"{DATASET}/versions/2", json={"retired": True})
    assert world.ok("GET", DATASET)["latest"]["version"] == 1
    for version in ("2", "golden"):
        refused(world.call("GET", f"{DATASET}/preview?version={version}"), 404)
    refused(world.call("PUT", f"{DATASET}/tags/golden", json={"version": 2}), 404)
    history = world.ok("GET", f"{DATASET}/versions")["items"]
    assert [(v["version"], v["retired"]) for v in history] == [(2, True), (1, False)]
    # Its number is not given again.
    assert world.dataset(rows=7)["latest"]["version"] == 3
    world.ok("PATCH", f"{DATASET}/versions/3", json={"retired": True})
    world.ok("PATCH", f"{DATASET}/versions/2", json={"retired": False})
    assert world.ok("GET", DATASET)["latest"]["version"] == 2
    for version in (1, 2):
        world.ok("PATCH", f"{DATASET}/versions/{version}", json={"retired": True})
    refused(world.call("GET", DATASET), 404)
    assert world.ok("GET", "/datasets")["items"] == []
    refused(world.call("PATCH", f"{DATASET}/versions/9", json={"retired": True}), 404)


def collecting(world: World, **changes: Any) -> Collecting:
    settings = {"keep": timedelta(0), "settled": timedelta(0), **changes}
    blobs = world.services.blobs
    return Collecting(SqlGarbageRecords(world.database), blobs, **settings)


def kept(world: World, digest: str) -> bool:
    return world.blobs.local_path(digest).exists()


def retire(world: World, version: int) -> None:
    world.ok("PATCH", f"{DATASET}/versions/{version}", json={"retired": True})


def test_content_goes_only_when_nothing_refers_to_it(world: World) -> None:
    digests = [store(world, pa.table({"x": range(n)}))["digest"] for n in (1, 2, 3, 4)]
    store(world, pa.table({"x": range(2)}), "the-same-elsewhere")
    run = world.submit(datasets=["digits@3"])
    for version in (1, 2, 3):
        retire(world, version)
    collecting(world, keep=timedelta(hours=1)).work()
    assert all(kept(world, digest) for digest in digests)
    collecting(world, settled=timedelta(hours=1)).work()
    # Somebody may be about to make a version of what was stored just now.
    assert all(kept(world, digest) for digest in digests)
    collecting(world).work()
    assert [kept(world, digest) for digest in digests] == [False, True, True, True]
    world.ok("POST", f"/runs/{run['id']}/cancel")
    collecting(world).work()
    assert kept(world, digests[2])
    assert world.ok("GET", "/datasets/alice/the-same-elsewhere/preview")["total_rows"] == 2
    assert "deleted" in refused(
        world.call("PATCH", f"{DATASET}/versions/1", json={"retired": False}), 409
    )
    # The content is known to nobody any more: it has to be sent again, and then is there.
    body = {"blob": digests[0]}
    refused(world.call("POST", "/datasets/alice/again/versions", json=body), 404)
    again = store(world, pa.table({"x": range(1)}), "again")
    assert again["digest"] == digests[0]
    collecting(world).work()
    assert kept(world, digests[0])


class Killed(BaseException):
    """Nothing handles it: the process is gone."""


@pytest.mark.parametrize("at", ["collect", "remove", "removed"])
def test_a_crash_while_collecting_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    digest = store(world, pa.table({"x": [1]}))["digest"]
    other = store(world, pa.table({"x": [2]}))["digest"]
    retire(world, 1)
    collector = collecting(world)
    target: Any = collector._blobs if at == "remove" else collector._records

    def die(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(target, at, die)
        with pytest.raises(Killed):
            collector.work()
    assert kept(world, digest) is (at != "removed")
    # As a service that starts again would.
    collecting(world).work()
    assert not kept(world, digest)
    assert kept(world, other)
    collecting(world).work()
    assert world.ok("GET", f"{DATASET}/preview")["rows"] == [[2]]


def test_a_version_that_is_taken_back_meanwhile_is_kept(world: World) -> None:
    digest = store(world, pa.table({"x": [1]}))["digest"]
    retire(world, 1)
    records = SqlGarbageRecords(world.database)
    (found,) = records.retired(datetime.now(UTC))
    world.ok("PATCH", f"{DATASET}/versions/1", json={"retired": False})
    assert not records.collect(found, datetime.now(UTC))
    collecting(world).work()
    assert kept(world, digest)


def profiled(world: World, *versions: int) -> None:
    for version in versions:
        world.ok("POST", f"{DATASET}/profile?version={version}")
    while world.services.profiling.work() == 0:
        pass


def test_two_versions_are_compared(world: World) -> None:
    rng = np.random.default_rng(0)
    n = 2000
    first = {
        "same": rng.normal(0, 1, n),
        "moved": rng.normal(0, 1, n),
        "label": ["a", "b"] * (n // 2),
        "holes": pa.array(range(n), pa.int64()),
        "gone": [1] * n,
        "kind": pa.array([1] * n, pa.int32()),
    }
    store(world, pa.table(first))
    second = {
        "same": rng.normal(0, 1, n + 100),
        "moved": rng.normal(3, 1, n + 100),
        "label": ["a", "a", "b"] * ((n + 100) // 3),
        "holes": pa.array([None if i % 2 else i for i in range(n + 100)], pa.int64()),
        "new": ["x"] * (n + 100),
        "kind": pa.array([1] * (n + 100), pa.int64()),
    }
    store(world, pa.table(second))
    plain = world.ok("GET", f"{DATASET}/diff")
    assert [plain["before"]["version"], plain["after"]["version"]] == [1, 2]
    assert [plain["rows_before"], plain["rows_after"]] == [2000, 2100]
    assert [c["name"] for c in plain["added"]] == ["new"]
    assert [c["name"] for c in plain["removed"]] == ["gone"]
    assert [[c["type"] for c in pair] for pair in plain["retyped"]] == [["int32", "int64"]]
    assert not plain["profiled"]
    assert plain["changes"] == []
    profiled(world, 1, 2)
    whole = world.ok("GET", f"{DATASET}/diff?before=1&after=latest")
    assert whole["profiled"]
    changes = {change["name"]: change for change in whole["changes"]}
    assert next(iter(changes)) == "moved"
    assert changes["moved"]["shift"] > 0.8
    # Two thirds against a half.
    assert changes["label"]["shift"] == pytest.approx(1 / 6, abs=0.01)
    assert changes["holes"]["missing_after"] == pytest.approx(0.5)
    assert changes.get("same", {"shift": 0})["shift"] < 0.08
    same = world.ok("GET", f"{DATASET}/diff?before=2&after=2")
    assert same["same_content"]
    assert same["changes"] == []
    refused(world.call("GET", f"{DATASET}/diff?before=9"), 404)
