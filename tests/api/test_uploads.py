"""Uploads in pieces: interrupted, repeated, damaged, too large, somebody else's."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import World, serving

from aiaas_hub.home import Home


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as made:
        yield made


def content(rows: int = 1000) -> tuple[bytes, str]:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": range(rows)}), sink)
    return sink.getvalue(), hashlib.sha256(sink.getvalue()).hexdigest()


def put(world: World, digest: str, offset: int, piece: bytes, token: str = "user:alice") -> Any:
    owner = token.partition(":")[2]
    path = f"/uploads/{owner}/{digest}?offset={offset}"
    return world.call("PUT", path, token, content=piece)


def received(world: World, digest: str) -> int:
    found: int = world.ok("GET", f"/uploads/alice/{digest}")["received"]
    return found


def test_an_upload_goes_on_where_it_was(world: World) -> None:
    whole, digest = content()
    assert received(world, digest) == 0
    assert put(world, digest, 0, whole[:1000]).json()["received"] == 1000
    # A piece that comes twice, or out of its turn, changes nothing and is told where to go on.
    for offset in (0, 500, 5000):
        assert put(world, digest, offset, whole[:1000]).json()["received"] == 1000
    assert world.call("POST", f"/uploads/alice/{digest}").status_code == 400
    # What came until then was not what was announced, and is not kept.
    assert received(world, digest) == 0
    put(world, digest, 0, whole[:1000])
    put(world, digest, 1000, whole[1000:])
    done = world.ok("POST", f"/uploads/alice/{digest}")
    assert done == {"digest": digest, "size": len(whole)}
    assert world.ok("POST", f"/uploads/alice/{digest}") == done
    made = world.ok("POST", "/datasets/alice/sent/versions", json={"blob": digest})
    assert made["latest"]["rows"] == 1000
    parts = world.home.artifacts / "uploads"
    assert [path for path in parts.rglob("*") if path.is_file()] == []


def test_what_is_not_whole_is_nothing(world: World) -> None:
    whole, digest = content()
    put(world, digest, 0, whole[:-1])
    body = {"blob": digest}
    assert world.call("POST", "/datasets/alice/sent/versions", json=body).status_code == 404
    assert world.call("POST", "/uploads/alice/" + "1" * 64).status_code == 409
    assert world.call("POST", f"/uploads/alice/{digest}").status_code == 400
    damaged = bytes([whole[0] ^ 1]) + whole[1:]
    _, other = content(7)
    put(world, other, 0, damaged)
    assert world.call("POST", f"/uploads/alice/{other}").status_code == 400
    assert (
        world.call("POST", "/datasets/alice/sent/versions", json={"blob": other}).status_code == 404
    )
    assert world.ok("GET", "/datasets")["items"] == []


def test_an_upload_survives_the_service(world: World, tmp_path: Path) -> None:
    whole, digest = content()
    put(world, digest, 0, whole[:1000])
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as again:
        assert received(again, digest) == 1000
        put(again, digest, 1000, whole[1000:])
        assert again.ok("POST", f"/uploads/alice/{digest}")["size"] == len(whole)


def test_limits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.services.uploads, "_limit", 100)
    assert put(world, "a" * 64, 0, b"x" * 60).status_code == 200
    assert put(world, "a" * 64, 60, b"x" * 60).status_code == 413
    assert received(world, "a" * 64) == 0
    for number in range(8):
        assert put(world, f"{number}" * 64, 0, b"x").status_code == 200
    assert put(world, "b" * 64, 0, b"x").status_code == 429
    assert put(world, "b" * 64, 0, b"x", "user:bob").status_code == 200
    # One that was begun may go on, and what nobody goes on with is forgotten.
    assert put(world, "1" * 64, 1, b"x").json()["received"] == 2
    for path in (world.home.artifacts / "uploads").glob("*/0*"):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    assert put(world, "b" * 64, 0, b"x").status_code == 200
    assert received(world, "0" * 64) == 0
    assert world.call("PUT", "/uploads/alice/..%2f..%2fx?offset=0", content=b"x").status_code in (
        400,
        404,
    )
    assert world.call("PUT", "/uploads/alice/xyz?offset=0", content=b"x").status_code == 400


def test_a_strangers_upload_is_not_there(world: World) -> None:
    whole, digest = content()
    put(world, digest, 0, whole)
    for method in ("GET", "PUT", "POST"):
        assert world.call(method, f"/uploads/alice/{digest}", "user:bob").status_code == 404
    # The same announced by another user is another upload.
    assert world.ok("GET", f"/uploads/bob/{digest}", "user:bob")["received"] == 0
