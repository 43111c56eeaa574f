"""Profiles: what is said of columns, and that they are computed once, whatever ends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import World, serving

from aiaas_hub.domain.profiling import balance
from aiaas_hub.home import Home

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("profiles")
    with serving(Home(path / "home"), f"sqlite:///{path / 'records.sqlite'}") as made:
        yield made


def store(world: World, name: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    body = {"blob": world.upload(sink.getvalue())}
    world.ok("POST", f"/datasets/alice/{name}/versions", json=body)


def profile(world: World, name: str) -> dict[str, Any]:
    asked = world.call("POST", f"/datasets/alice/{name}/profile")
    assert (asked.status_code, asked.json()["state"]) == (202, "queued")
    while world.services.profiling.work() == 0:
        pass
    status = world.ok("GET", f"/datasets/alice/{name}/profile")
    assert status["state"] == "done", status
    assert status["done"] == status["total"] == len(status["profile"]["columns"])
    found: dict[str, Any] = status["profile"]
    return found


def test_each_kind_of_column_is_described(world: World) -> None:
    n = 1000
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "number": pa.array([None if i % 10 == 0 else i for i in range(n)], pa.int32()),
            "real": np.where(np.arange(n) < 5, np.nan, rng.normal(10, 2, n)),
            "huge": pa.array([float("inf")] * 3 + [1.0] * (n - 3)),
            "text": [f"city {i % 4}" if i else "" for i in range(n)],
            "label": [bool(i % 4 == 0) for i in range(n)],
            "when": [START + timedelta(hours=i) for i in range(n)],
            "day": pa.array(list(range(n)), pa.date32()),
            "money": pa.array(list(range(n)), pa.decimal128(10, 2)),
            "vector": [[1.0] * (i % 3 + 1) for i in range(n)],
            "raw": [b"x" * (i % 5) for i in range(n)],
            "nested": [{"a": i} for i in range(n)],
            "empty": pa.array([None] * n, pa.string()),
            'odd "name"; --': ["<b>&"] * n,
        }
    )
    store(world, "kinds", table)
    found = profile(world, "kinds")
    assert (found["rows"], found["looked_at"], found["duplicates"]) == (n, n, 0)
    columns = {column["name"]: column for column in found["columns"]}
    number = columns["number"]
    assert (number["kind"], number["nulls"], number["least"], number["most"]) == (
        "number",
        100,
        1,
        999,
    )
    assert number["mean"] == pytest.approx(np.mean([i for i in range(n) if i % 10]))
    assert number["quantiles"]["0.5"] == pytest.approx(500, abs=15)
    assert number["distinct"] == pytest.approx(900, rel=0.1)
    assert sum(number["histogram"]["counts"]) == 900
    assert number["histogram"]["edges"][0] == 1
    real = columns["real"]
    assert (real["not_finite"], sum(real["histogram"]["counts"])) == (5, n - 5)
    assert real["deviation"] == pytest.approx(2, rel=0.2)
    assert (columns["huge"]["not_finite"], columns["huge"]["histogram"]["counts"]) == (3, [997])
    text = columns["text"]
    assert text["lengths"] == {"least": 0, "mean": 5.994, "most": 6}
    assert text["top"][0] == {"value": "city 1", "count": 250}
    assert text["distinct"] == 5
    assert columns["label"]["balance"] == pytest.approx(0.811, abs=0.001)
    assert columns["when"]["kind"] == "time"
    assert columns["when"]["histogram"]["edges"][0] == START.timestamp()
    assert columns["day"]["least"] == "1970-01-01"
    assert columns["money"]["mean"] == pytest.approx(499.5)
    assert columns["vector"]["lengths"]["most"] == 3
    assert columns["raw"]["lengths"]["most"] == 4
    assert columns["nested"]["kind"] == "other"
    assert (columns["empty"]["nulls"], columns["empty"]["top"]) == (n, [])
    assert columns['odd "name"; --']["distinct"] == 1
    assert not [column for column in found["columns"] if column["note"]]


def test_duplicates_and_an_empty_table(world: World) -> None:
    store(world, "twice", pa.table({"a": [1, 1, 2, 2, 2], "b": ["x", "x", "y", "y", "z"]}))
    assert profile(world, "twice")["duplicates"] == 2
    store(world, "empty", pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}))
    found = profile(world, "empty")
    assert (found["rows"], found["looked_at"], found["duplicates"]) == (0, 0, 0)


def test_a_large_version_is_sampled_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.services.profiling, "_sample_rows", 2000)
    store(world, "large", pa.table({"x": np.arange(50_000)}))
    found = profile(world, "large")
    assert found["rows"] == 50_000
    assert 1500 < found["looked_at"] < 2500
    # From all over the version, not from its beginning.
    assert found["columns"][0]["mean"] == pytest.approx(25_000, rel=0.1)


def test_a_profile_is_computed_once_and_begun_again_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiling = world.services.profiling
    store(world, "crash", pa.table({"x": [1, 2, 3]}))
    assert world.ok("GET", "/datasets/alice/crash/profile")["state"] == "none"
    world.ok("POST", "/datasets/alice/crash/profile")

    class Killed(BaseException):
        """Not an exception that anything handles: the process is gone."""

    def die(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(profiling, "_profile", die)
        with pytest.raises(Killed):
            profiling.work()
    assert world.ok("GET", "/datasets/alice/crash/profile")["state"] == "running"
    # Asking again does not queue it twice.
    assert world.ok("POST", "/datasets/alice/crash/profile")["state"] == "running"
    profiling.work()
    done = world.ok("GET", "/datasets/alice/crash/profile")
    assert done["state"] == "done"
    assert world.ok("POST", "/datasets/alice/crash/profile") == done
    assert profiling.work() > 0


def test_a_profile_that_ends_the_service_each_time_is_given_up(world: World) -> None:
    store(world, "deadly", pa.table({"x": [1]}))
    world.ok("POST", "/datasets/alice/deadly/profile")
    for _ in range(3):
        world.services.profiling._records.begin("alice", "deadly", 1)
    world.services.profiling.work()
    failed = world.ok("GET", "/datasets/alice/deadly/profile")
    assert (failed["state"], failed["error"][:11]) == ("failed", "The service")
    assert world.ok("POST", "/datasets/alice/deadly/profile")["state"] == "queued"
    world.services.profiling.work()
    assert world.ok("GET", "/datasets/alice/deadly/profile")["state"] == "done"


def test_a_profile_of_what_is_not_there(world: World) -> None:
    assert world.call("POST", "/datasets/alice/nothing/profile").status_code == 404
    assert world.call("POST", "/datasets/alice/kinds/profile?version=9").status_code == 404


def test_balance() -> None:
    assert balance([5, 5, 5]) == pytest.approx(1)
    assert balance([1000, 1]) == pytest.approx(0.011, abs=0.001)
    assert balance([7]) is None
