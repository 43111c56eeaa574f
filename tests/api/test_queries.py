"""SQL over datasets, filtered and sorted pages, and what nobody else may see by them."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import World, serving

from aiaas_hub.domain.turns import Turns
from aiaas_hub.home import Home


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With records of one kind: queries ask little of them."""
    tmp_path = tmp_path_factory.mktemp("queries")
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as made:
        yield made


def store(world: World, name: str, table: pa.Table, owner: str = "alice", **writing: Any) -> Any:
    sink = io.BytesIO()
    pq.write_table(table, sink, **writing)
    token = f"user:{owner}"
    body = {"blob": world.upload(sink.getvalue(), token)}
    return world.ok("POST", f"/datasets/{owner}/{name}/versions", token, json=body)


@pytest.fixture(scope="module")
def sales(world: World) -> World:
    """alice's sales in 1,000 rows and ten row groups, in two versions; bob's secret."""
    rows = {"id": list(range(1000)), "city": [f"c{i % 5}" for i in range(1000)]}
    store(world, "sales", pa.table({**rows, "price": [0.5] * 1000}), row_group_size=100)
    prices = [float(i % 97) for i in range(1000)]
    store(world, "sales", pa.table({**rows, "price": prices}), row_group_size=100)
    store(world, "secret", pa.table({"word": ["hunter2"]}), "bob")
    return world


def ask(world: World, sql: str, token: str = "user:alice", **body: Any) -> Any:
    return world.call("POST", "/queries", token, json={"sql": sql, **body})


def table(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = pq.read_table(io.BytesIO(answer.content)).to_pydict()
    return found


def message(answer: Any, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["remedy"]
    return str(answer.json()["error"]["message"])


def test_a_query_names_datasets_in_each_way(sales: World) -> None:
    for name in (
        "sales",
        "alice.sales",
        '"sales@2"',
        "{{sales}}",
        "{{alice/sales@2}}",
    ):
        answer = ask(sales, f"SELECT max(price) AS top FROM {name}")  # noqa: S608 - a test's
        assert table(answer) == {"top": [96.0]}
        assert json.loads(answer.headers["x-aiaas-datasets"]) == ["alice/sales@2"]
        assert answer.headers["x-aiaas-rows"] == "1"
        assert "x-aiaas-cut" not in answer.headers
    joined = (
        "SELECT count(*) AS n FROM {{sales@1}} a JOIN sales b USING (id) WHERE a.price < b.price"
    )
    assert table(ask(sales, joined)) == {"n": [989]}
    own = table(ask(sales, "SELECT * FROM secret", "user:bob"))
    assert own == {"word": ["hunter2"]}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM bob.secret",
        "SELECT * FROM {{bob/secret}}",
        'SELECT * FROM "bob/secret@1"',
        "WITH x AS (SELECT * FROM bob.secret) SELECT * FROM x",
        "SELECT (SELECT word FROM bob.secret)",
        "SELECT * FROM bob.nothing",
    ],
)
def test_somebody_elses_dataset_is_absent(sales: World, sql: str) -> None:
    answer = ask(sales, sql)
    name = "nothing" if "nothing" in sql else "secret@1" if "@1" in sql else "secret"
    assert message(answer, 404) == f"There is no dataset {name}."


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('{blob}')",
        "SELECT * FROM '{blob}'",
        "COPY sales TO '/tmp/stolen.csv'",
        "WITH x AS (COPY (SELECT 1) TO '{blob}' (USE_TMP_FILE false)) SELECT 1 FROM sales",
        "INSTALL httpfs",
        "ATTACH '/tmp/x.db'",
        "SET memory_limit = '1TB'",
        "PRAGMA database_list",
        "SELECT getenv('HOME')",
        "SELECT * FROM sqlite_master",
        "SELECT nope FROM sales",
        "SELECT 1; DROP VIEW sales",
        "SELECT * FROM sales a, Sales b",
        "SELECT * FROM information_schema.tables",
    ],
)
def test_an_attack_fails_in_a_sentence(sales: World, sql: str) -> None:
    digest = sales.ok("GET", "/datasets/alice/sales")["latest"]["digest"]
    blob = sales.blobs.local_path(digest)
    before = blob.read_bytes()
    answer = ask(sales, sql.format(blob=blob))
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["remedy"]
    assert "LINE 1" not in answer.text
    assert blob.read_bytes() == before


def test_names_that_sql_takes_for_one_are_not_mixed_up(sales: World) -> None:
    store(sales, "SALES", pa.table({"other": [1]}))
    both = ask(sales, "SELECT * FROM sales, SALES")
    assert "one name in SQL" in message(both)
    told = ask(sales, "SELECT count(*) AS n FROM {{sales@1}}, {{SALES@latest}}")
    assert table(told) == {"n": [1000]}


def test_a_reader_may_query_and_a_stranger_may_not(sales: World) -> None:
    assert ask(sales, "SELECT count(*) FROM sales", "reader:alice").status_code == 200
    assert ask(sales, "SELECT 1", "user:gone:x").status_code in (200, 401)
    assert ask(sales, "SELECT 1", "nobody").status_code == 401


def test_a_cut_result_says_so_and_a_wanted_one_does_not(
    sales: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ask(sales, "FROM sales", limit=10)
    assert len(table(wanted)["id"]) == 10
    assert "x-aiaas-cut" not in wanted.headers
    limits = sales.services.querying._limits
    monkeypatch.setattr(sales.services.querying, "_limits", type(limits)(5, 1 << 30, 1 << 30))
    cut = ask(sales, "FROM sales", limit=10)
    assert len(table(cut)["id"]) == 5
    assert cut.headers["x-aiaas-cut"] == "rows"


def test_a_saved_result_is_whole_or_nothing_and_tells_where_it_comes_from(
    sales: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "SELECT city, sum(price) AS total FROM {{sales@2}} GROUP BY city ORDER BY city"
    monkeypatch.setattr(
        sales.services.querying,
        "_limits",
        type(sales.services.querying._limits)(2, 1 << 30, 1 << 30),
    )
    body = {"query": sql, "description": "by city"}
    made = sales.ok("POST", "/datasets/alice/by-city/versions", json=body)
    assert (made["latest"]["rows"], made["latest"]["source"]) == (5, "query")
    origin = made["latest"]["origin"]
    assert (origin["kind"], origin["by"], origin["sql"]) == ("query", "alice", sql)
    assert origin["inputs"] == [{"owner": "alice", "name": "sales", "version": 2}]
    # The same result is the same version.
    again = sales.ok("POST", "/datasets/alice/by-city/versions", json=body)
    assert again["latest"]["version"] == 1
    both = {"query": sql, "uri": "/x.csv"}
    assert "neither" in message(sales.call("POST", "/datasets/alice/x/versions", json=both))
    monkeypatch.setattr(sales.services.datasets, "max_bytes", 100)
    big = {"query": "FROM sales"}
    assert "larger" in message(sales.call("POST", "/datasets/alice/x/versions", json=big), 413)
    assert sales.call("GET", "/datasets/alice/x").status_code == 404
    stolen = {"query": "SELECT * FROM bob.secret"}
    assert sales.call("POST", "/datasets/alice/x/versions", json=stolen).status_code == 404


def preview(world: World, query: str) -> Any:
    return world.call("GET", f"/datasets/alice/sales/preview?{query}")


def test_pages_are_pushed_down(sales: World) -> None:
    plain = preview(sales, "n=3&offset=250&columns=id").json()
    assert [plain["rows"], plain["offset"], plain["truncated"]] == [
        [[250], [251], [252]],
        250,
        True,
    ]
    end = preview(sales, "n=5&offset=998&columns=id").json()
    assert [end["rows"], end["truncated"]] == [[[998], [999]], False]
    assert preview(sales, "n=5&offset=5000").json()["rows"] == []
    some = preview(sales, "n=2&columns=price,id&where=city = 'c1' AND price > 90").json()
    assert some["filtered"]
    assert some["truncated"]
    assert some["total_rows"] == 1000
    assert [column["type"] for column in some["columns"]] == ["double", "int64"]
    assert some["rows"] == [[91.0, 91], [96.0, 96]]
    best = preview(sales, "n=2&sort=price:desc,id&columns=price,id&offset=1").json()
    assert best["rows"] == [[96.0, 193], [96.0, 290]]
    none = preview(sales, "where=id < 0").json()
    assert (none["rows"], none["truncated"]) == ([], False)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("where=nope > 1", "not found"),
        ("where=%20", "empty"),
        ("where=1) UNION ALL SELECT * FROM bob.secret WHERE (1=1", "own dataset"),
        ("where=id IN (SELECT id FROM {{sales}})", "syntax|own|find|type|column"),
        ("where=(SELECT count(*) FROM read_text('/etc/passwd')) > 0", "read_text"),
        ("where=1=1; DROP VIEW sales", "syntax|statement"),
        ("sort=nope", "no column 'nope'"),
        ("columns=nope&where=true", "no column 'nope'"),
        ("columns=id,id&where=true", "twice"),
        ("n=0", "1 to 1000"),
        ("n=100000&where=true", "1 to 1000"),
    ],
)
def test_a_page_that_cannot_be(sales: World, query: str, says: str) -> None:
    import re

    assert re.search(says, message(preview(sales, query)))


def test_a_condition_may_ask_of_its_own_dataset(sales: World) -> None:
    found = preview(
        sales, "where=price > (SELECT avg(price) %2B 48 FROM sales)&columns=price"
    ).json()
    assert {row[0] for row in found["rows"]} == {95.0, 96.0}


def test_rows_that_fulfil_a_condition_keep_their_types(sales: World) -> None:
    answer = sales.call(
        "GET", "/datasets/alice/sales/data?where=id BETWEEN 5 AND 7 -- these&columns=id,city"
    )
    assert table(answer) == {"id": [5, 6, 7], "city": ["c0", "c1", "c2"]}
    limited = sales.call("GET", "/datasets/alice/sales/data?where=id > 5&limit=2&columns=id")
    assert len(table(limited)["id"]) == 2


def test_one_user_does_not_take_all_turns(sales: World, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(per_user=1, in_all=2, what="queries")
    monkeypatch.setattr(sales.services.querying, "_turns", turns)
    with turns.turn("alice", lambda: False):
        assert "as many as one" in message(ask(sales, "SELECT 1"), 429)
        assert ask(sales, "SELECT 1 AS x", "user:bob").status_code == 200
    assert ask(sales, "SELECT 1 AS x").status_code == 200


def test_a_query_ends_when_its_asker_is_gone(sales: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sales.services.querying, "_turns", Turns(1, 1, "queries"))
    many = "range(1000000000)"
    endless = f"SELECT count(*) FROM {many} a, {many} b WHERE a.range = -b.range - 1"  # noqa: S608
    with pytest.raises(httpx.ReadTimeout):
        sales.call("POST", "/queries", json={"sql": endless}, timeout=1)
    deadline = time.monotonic() + 60
    while ask(sales, "SELECT 1 AS x").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_text_that_stands_for_gigabytes_is_not_answered(world: World) -> None:
    text = pa.array(["x" * (1 << 20)])
    folded = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), text)
    store(world, "bomb", pa.table({"text": folded}), store_schema=False)
    assert message(world.call("GET", "/datasets/alice/bomb/preview?n=1000&where=true"), 413)
    assert message(world.call("GET", "/datasets/alice/bomb/data?where=true"), 413)
