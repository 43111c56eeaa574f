"""Datasets over HTTP."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import World


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def add(world: World, name: str, content: bytes) -> Any:
    return world.call(
        "POST", f"/datasets/alice/{name}/versions", json={"blob": world.upload(content)}
    )


def notebook(world: World, owner: str = "alice") -> Path:
    directory = world.home.notebooks / owner
    directory.mkdir(exist_ok=True)
    return directory


def test_versions_are_numbered_and_the_same_content_is_the_same_version(world: World) -> None:
    first = world.dataset(rows=5)
    assert (first["latest"]["version"], first["latest"]["rows"]) == (1, 5)
    assert world.dataset(rows=5)["latest"]["version"] == 1
    assert world.dataset(rows=6)["latest"]["version"] == 2
    assert world.ok("GET", "/datasets/alice/digits?version=1")["latest"]["rows"] == 5
    assert world.call("GET", "/datasets/alice/digits?version=3").status_code == 404
    columns = [(column["name"], column["type"]) for column in first["latest"]["columns"]]
    assert columns == [("x", "int64"), ("label", "string")]


def test_list_finds_by_part_and_by_wildcard_and_pages(world: World) -> None:
    for name in ("digits-train", "digits-test", "iris", "100%"[:3]):
        world.dataset(name)

    def names(query: str) -> list[str]:
        return [d["name"] for d in world.ok("GET", f"/datasets{query}")["items"]]

    assert names("") == ["100", "iris", "digits-test", "digits-train"]
    assert names("?pattern=digits") == ["digits-test", "digits-train"]
    assert names("?pattern=*-test") == ["digits-test"]
    assert names("?pattern=%25") == []
    page = world.ok("GET", "/datasets?limit=3")
    rest = world.ok("GET", f"/datasets?limit=3&cursor={page['next_cursor']}")
    assert [d["name"] for d in rest["items"]] == ["digits-train"]
    assert rest["next_cursor"] is None
    assert world.call("GET", "/datasets?cursor=x").status_code == 400


def test_preview_gives_json_values(world: World) -> None:
    table = pa.table(
        {
            "when": pd.to_datetime(["2026-01-02"]),
            "blob": [b"\x00\xff"],
            "nested": [{"a": [1, 2]}],
            "odd": [float("nan")],
            "none": pa.array([None], pa.int64()),
        }
    )
    assert add(world, "mixed", parquet(table)).status_code == 201
    shown = world.ok("GET", "/datasets/alice/mixed/preview?n=5")
    assert shown["rows"] == [["2026-01-02T00:00:00", "AP8=", {"a": [1, 2]}, "nan", None]]
    assert not shown["truncated"]
    chosen = world.ok("GET", "/datasets/alice/mixed/preview?columns=odd,blob")
    assert chosen["rows"] == [["nan", "AP8="]]
    unknown = world.call("GET", "/datasets/alice/mixed/preview?columns=nope")
    assert unknown.json()["error"]["remedy"].startswith("Choose among: when, blob")
    assert world.call("GET", "/datasets/alice/mixed/preview?n=100000").status_code == 400


def test_data_is_parquet_whole_or_in_part(world: World) -> None:
    world.dataset(rows=5)
    whole = world.call("GET", "/datasets/alice/digits/data").content
    assert pq.read_table(io.BytesIO(whole)).num_rows == 5
    part = world.call("GET", "/datasets/alice/digits/data?columns=label&limit=2").content
    assert pq.read_table(io.BytesIO(part)).to_pydict() == {"label": ["a", "a"]}


def test_register_copies_a_file(world: World) -> None:
    file = notebook(world) / "iris.csv"
    file.write_text("a,b\n1,x\n2,y\n")
    made = world.ok("POST", "/datasets/alice/iris/versions", json={"uri": str(file)})
    assert (made["latest"]["format"], made["latest"]["rows"]) == ("csv", 2)
    assert made["latest"]["source"] == file.as_uri()
    file.unlink()
    assert world.ok("GET", "/datasets/alice/iris/preview")["rows"] == [[1, "x"], [2, "y"]]
    pq.write_table(pa.table({"a": [1]}), notebook(world) / "one.parquet")
    body = {"uri": (notebook(world) / "one.parquet").as_uri()}
    assert world.ok("POST", "/datasets/alice/one/versions", json=body)["latest"]["rows"] == 1


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///proc/self/environ",
        "{own}/../bob/secret.csv",
        "{own}/%2e%2e/bob/secret.csv",
        "file://{own}/%2e%2e/bob/secret.csv",
        "{own}/link.csv",
        "file://evil.example{own}/a.csv",
    ],
)
def test_register_reads_nothing_outside_the_own_directory(world: World, uri: str) -> None:
    own = notebook(world)
    (notebook(world, "bob") / "secret.csv").write_text("a\n1\n")
    (own / "a.csv").write_text("a\n1\n")
    os.symlink(notebook(world, "bob") / "secret.csv", own / "link.csv")
    body = {"uri": uri.format(own=own), "format": "csv"}
    response = world.call("POST", "/datasets/alice/stolen/versions", json=body)
    assert response.status_code == 400, response.text
    assert world.call("GET", "/datasets/alice/stolen").status_code == 404


@pytest.mark.parametrize("name", ["..", "a%0Ab", "%3Cscript%3E", "x" * 300, "a..b"])
def test_bad_names(world: World, name: str) -> None:
    digest = world.upload(parquet(pa.table({"a": [1]})))
    response = world.call("POST", f"/datasets/alice/{name}/versions", json={"blob": digest})
    assert response.status_code in (400, 404)
    assert world.ok("GET", "/datasets")["items"] == []


def test_what_is_not_parquet_is_refused_and_never_run(world: World, tmp_path: Path) -> None:
    """A pickle that would make a file when opened: nothing opens it."""
    import pickle

    canary = tmp_path / "canary"

    class Canary:
        def __reduce__(self) -> Any:
            return (open, (str(canary), "w"))

    for content in (pickle.dumps(Canary()), b"PAR1 nonsense PAR1", b""):
        response = add(world, "evil", content)
        assert response.status_code == 400
        assert "not readable as Parquet" in response.json()["error"]["message"]
    assert not canary.exists()
    assert world.ok("GET", "/datasets")["items"] == []


def test_an_upload_is_its_uploaders(world: World) -> None:
    digest = world.upload(parquet(pa.table({"a": [1]})), "user:bob")
    response = world.call("POST", "/datasets/alice/mine/versions", json={"blob": digest})
    assert response.status_code == 404


def test_an_upload_beyond_the_limit_keeps_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiaas_hub.schemas.errors import TooLarge

    with pytest.raises(TooLarge):
        world.blobs.put(io.BytesIO(b"x" * 11), limit=10)
    assert [p for p in world.home.artifacts.rglob("*") if p.is_file()] == []


def test_a_few_bytes_that_stand_for_gigabytes(world: World) -> None:
    """One text of a megabyte, 4,000 times: 5 kB of file, 4 GB of text."""
    text = pa.array(["x" * (1 << 20)])
    folded = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), text)
    plain = pa.schema([pa.field("text", pa.string())])
    sink = io.BytesIO()
    table = pa.table({"text": folded})
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
        writer.write_table(table)
    assert len(sink.getvalue()) < 100_000
    assert pq.read_schema(io.BytesIO(sink.getvalue())) == plain
    assert add(world, "bomb", sink.getvalue()).status_code == 201
    before = psutil.Process().memory_info().rss
    shown = world.ok("GET", "/datasets/alice/bomb/preview?n=1000")
    assert len(shown["rows"][0][0]) == 10_001
    assert shown["truncated"]
    refused = world.call("GET", "/datasets/alice/bomb/data?columns=text")
    assert refused.status_code == 400
    assert psutil.Process().memory_info().rss - before < 300 << 20
    twice = world.call("GET", "/datasets/alice/bomb/preview?columns=text,text")
    assert twice.status_code == 400


def test_idle_uploads_keep_nobody_from_the_rest(world: World) -> None:
    address = (world.client.base_url.host, world.client.base_url.port)
    idle = []
    for _ in range(50):
        connection = socket.create_connection(address)
        head = "POST /services/aiaas/api/v1/blobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
        connection.sendall(f"{head}Authorization: Bearer user:alice\r\n\r\nx".encode())
        idle.append(connection)
    assert world.ok("GET", "/runs")["items"] == []
    for connection in idle:
        connection.close()
