"""Who finds and reads a dataset, by every way that leads to one."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import World


def reads(world: World, token: str) -> list[int]:
    """The answers to each way of reading alice's `shared`."""
    base = "/datasets/alice/shared"
    answers = [
        world.call("GET", f"{base}{way}", token)
        for way in ("", "/preview", "/preview?where=x>0", "/data", "/data?where=x>0", "/profile",
                    "/versions", "/lineage", "/diff", "?version=latest")
    ]  # fmt: skip
    sql = {"sql": "SELECT * FROM alice.shared"}
    answers.append(world.call("POST", "/queries", token, json=sql))
    owner = token.partition(":")[2].partition("+")[0]
    saved = {"query": sql["sql"]}
    answers.append(world.call("POST", f"/datasets/{owner}/copy/versions", token, json=saved))
    answers.append(world.call("POST", f"{base}/profile", token))
    digest = world.upload(b"a snapshot", token)
    body = {
        "name": "x",
        "datasets": ["alice/shared"],
        "snapshot": {"digest": digest, "python": world.services.python, "client": "0"},
    }
    answers.append(world.call("POST", "/runs/plan", token, json=body))
    answers.append(world.call("POST", "/runs", token, json=body))
    return sorted({answer.status_code for answer in answers})


def listed(world: World, token: str, query: str = "") -> list[str]:
    found = world.ok("GET", f"/datasets{query}", token)["items"]
    return [f"{dataset['owner']}/{dataset['name']}" for dataset in found]


def share(world: World, **how: Any) -> Any:
    return world.call("PATCH", "/datasets/alice/shared", "user:alice+team", json=how)


def test_one_rule_decides_by_every_way(world: World) -> None:
    """`user:bob+team` is bob, who is in the group team."""
    world.dataset("shared")
    world.dataset("other")
    assert reads(world, "user:bob") == [404]
    assert listed(world, "user:bob") == []
    assert share(world, visibility="everyone").status_code == 200
    assert reads(world, "user:bob") in ([200, 201, 202], [200, 201])
    assert "alice/shared" in listed(world, "user:bob")
    assert listed(world, "user:bob", "?owner=alice") == ["alice/shared"]
    # To read is not to change.
    for method, path, body in (
        ("PATCH", "", {"description": "mine"}),
        ("POST", "/versions", {"uri": "/x.csv"}),
        ("PUT", "/tags/golden", {"version": 1}),
        ("DELETE", "/tags/golden", None),
        ("PATCH", "/versions/1", {"retired": True}),
    ):
        answer = world.call(method, f"/datasets/alice/shared{path}", "user:bob", json=body)
        assert answer.status_code == 404, path
    assert share(world, visibility="group", group="team").status_code == 200
    assert reads(world, "user:carol") == [404]
    assert reads(world, "user:carol+team") in ([200, 201, 202], [200, 201])
    assert "alice/shared" in listed(world, "user:carol+team+other")
    assert "alice/shared" not in listed(world, "user:carol+others")
    assert share(world, visibility="private").status_code == 200
    assert reads(world, "user:dave+team") == [404]
    assert reads(world, "user:alice")[0] < 300


def test_a_run_is_not_gone_on_with_by_who_may_not_read_any_more(world: World) -> None:
    world.dataset("shared")
    share(world, visibility="everyone")
    run = world.submit("user:bob", datasets=["alice/shared"])
    token = world.run_token(run)
    # The run had it when it was submitted, and has it until its end.
    share(world, visibility="private")
    assert world.call("GET", f"/runs/{run['id']}/job/datasets/0/data", token).status_code == 200
    world.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "started"})
    error = {"kind": "failed", "error": {"type": "E", "message": "m", "traceback": ""}}
    world.ok("POST", f"/runs/{run['id']}/job/events", token, json=error)
    assert world.call("POST", f"/runs/{run['id']}/resume", "user:bob", json={}).status_code == 404


def test_a_group_is_one_of_ones_own(world: World) -> None:
    world.dataset("shared")
    refused = share(world, visibility="group", group="strangers")
    assert "in no group 'strangers'" in refused.json()["error"]["message"]
    assert refused.json()["error"]["remedy"] == "Your groups: team."
    for half in (
        {"visibility": "group"},
        {"visibility": "everyone", "group": "team"},
        {"group": "team"},
    ):
        assert share(world, **half).status_code == 400


def test_datasets_are_found_by_their_words(world: World) -> None:
    for name in ("city-sales", "weather", "other"):
        world.dataset(name)
    world.ok(
        "PATCH",
        "/datasets/alice/weather",
        json={
            "description": "**Rainfall** and Über-temperature, by the hour: `°C`.",
            "licence": "CC-BY-4.0",
            "tags": ["gold", "public data", "gold"],
        },
    )
    shown = world.ok("GET", "/datasets/alice/weather")
    assert shown["tags"] == ["gold", "public data"]
    assert shown["licence"] == "CC-BY-4.0"
    for words, names in {
        "rain": ["weather"],
        "RAINFALL hour": ["weather"],
        "über": ["weather"],
        "rainfall sales": [],
        "sales": ["city-sales"],
        "city-sales": ["city-sales"],
        "tag:gold": ["weather"],
        "tag:public": ["weather"],
        "name:gold": [],
        "column:label": ["other", "weather", "city-sales"],
        "column:rain": [],
        "owner:alice": ["other", "weather", "city-sales"],
        "text:temp": ["weather"],
        "100%25": [],
        "label_": ["other", "weather", "city-sales"],
    }.items():
        assert listed(world, "user:alice", f"?search={words}") == [f"alice/{n}" for n in names], (
            words
        )
    assert listed(world, "user:bob", "?search=rain") == []
    # What it was said to be before is not found any more.
    world.ok("PATCH", "/datasets/alice/weather", json={"description": "Sun."})
    assert listed(world, "user:alice", "?search=rain") == []
    assert listed(world, "user:alice", "?search=sun tag:gold") == ["alice/weather"]
    assert world.call("GET", "/datasets?search=" + "a " * 20).status_code == 400


def test_shared_and_own_datasets_are_paged_together(world: World) -> None:
    for number in range(3):
        for owner in ("alice", "bob", "carol"):
            world.dataset(f"{owner}-{number}", f"user:{owner}")
    for number in range(3):
        world.ok(
            "PATCH", f"/datasets/bob/bob-{number}", "user:bob", json={"visibility": "everyone"}
        )
        group = {"visibility": "group", "group": "team"}
        world.ok("PATCH", f"/datasets/carol/carol-{number}", "user:carol+team", json=group)
    whole = listed(world, "user:alice+team")
    assert len(whole) == 9
    assert whole[:3] == ["carol/carol-2", "bob/bob-2", "alice/alice-2"]
    paged: list[str] = []
    cursor: str | None = None
    while True:
        at = f"&cursor={cursor}" if cursor else ""
        page = world.ok("GET", f"/datasets?limit=2{at}", "user:alice+team")
        paged += [f"{d['owner']}/{d['name']}" for d in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == whole
    assert listed(world, "user:alice+team", "?pattern=*-1") == [
        "carol/carol-1",
        "bob/bob-1",
        "alice/alice-1",
    ]


@pytest.mark.parametrize("tags", [["a,b"], [" "], ["x" * 65], ["t"] * 51])
def test_tags_that_cannot_be(world: World, tags: list[str]) -> None:
    world.dataset("shared")
    assert world.call("PATCH", "/datasets/alice/shared", json={"tags": tags}).status_code == 400
