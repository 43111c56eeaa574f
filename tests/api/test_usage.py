"""What runs, endpoints and servers used, and quotas that hold."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_world import World
from sqlalchemy import update

from aiaas_hub.adapters.hub_events import HubEvent, HubEvents, ServerSpan
from aiaas_hub.adapters.records.tables import RunRow, UsageRow
from aiaas_hub.adapters.records.usage import SqlUsageRecords
from aiaas_hub.app import PYTHON
from aiaas_hub.domain.auditing import verify
from aiaas_hub.housekeeping import Housekeeping, chores
from aiaas_hub.schemas.audit import Outcome
from aiaas_hub.schemas.runs import Resources, RunState

GPUS = {"resources": {"workers": 2, "gpus_per_worker": 1}}


@pytest.fixture
def gpus(world: World) -> World:
    world.training.has = world.training.has.__class__(cpus=64, gpus=8)
    return world


def keep_house(world: World) -> None:
    """What the service's housekeeping does, here and now."""
    made = chores(
        world.services,
        SqlUsageRecords(world.database),
        HubEvents(world.home.hub_events),
        None,
    )
    Housekeeping(made).tidy()


def quotas(world: World, text: str) -> None:
    (world.home.root / "quotas.yaml").write_text(text)


def backdate(world: World, hours: float) -> None:
    """As if all that goes on had begun so long ago."""
    with world.database.transaction() as session:
        session.execute(
            update(UsageRow).values(started_at=datetime.now(UTC) - timedelta(hours=hours))
        )


def lines(world: World, token: str = "user:alice", **query: Any) -> dict[str, dict[str, Any]]:
    since = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    found = world.ok("GET", "/usage", token, params={"since": since, **query})
    return {line["key"]: line for line in found["lines"]}


def test_a_run_is_metered_from_its_start_to_its_end(gpus: World) -> None:
    run = gpus.submit(**GPUS)
    assert not lines(gpus)  # it waits
    token = gpus.run_token(run)
    backdate(gpus, 3)
    line = lines(gpus)[run["id"]]
    assert line["gpu_hours"] == pytest.approx(6, rel=0.01)
    assert line["worker_hours"] == pytest.approx(6, rel=0.01)
    for kind in ("started", "succeeded"):
        gpus.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": kind})
    spans = gpus.services.usage.spans(["alice"], datetime.now(UTC) - timedelta(days=1))
    assert [span.ended_at is not None for span in spans] == [True]
    # What it was asked for with two attempts at once is no more than what it had.
    assert lines(gpus)[run["id"]]["gpu_hours"] == pytest.approx(6, rel=0.01)


def test_each_attempt_is_metered_once_and_waiting_between_costs_nothing(gpus: World) -> None:
    run = gpus.submit(retries=1, **GPUS)
    gpus.run_token(run)
    records = gpus.services.run_records
    for _ in range(2):  # a repeat changes nothing
        records.transition(run["id"], 1, [RunState.STARTING], RunState.QUEUED, next_attempt=2)
    gpus.tick(2)
    with gpus.database.reading() as session:
        rows = {row.id: row.ended_at for row in session.query(UsageRow)}
    assert set(rows) == {f"run/{run['id']}-1", f"run/{run['id']}-2"}
    assert rows[f"run/{run['id']}-1"] is not None
    assert rows[f"run/{run['id']}-2"] is None


def test_what_was_lost_is_not_paid_after_it_was_last_heard_of(gpus: World) -> None:
    run = gpus.submit(**GPUS)
    gpus.run_token(run)
    backdate(gpus, 5)
    heard = datetime.now(UTC) - timedelta(hours=4)
    with gpus.database.transaction() as session:
        session.execute(update(RunRow).values(used_at=heard))
    gpus.services.run_records.transition(run["id"], 1, [RunState.STARTING], RunState.LOST)
    assert lines(gpus)[run["id"]]["hours"] == pytest.approx(1, rel=0.01)


def test_an_endpoint_is_metered_while_it_is_served(world: World) -> None:
    world.published()
    backdate(world, 2)
    assert lines(world, by="endpoint")["alice/digits"]["hours"] == pytest.approx(2, rel=0.01)
    world.ok("DELETE", "/endpoints/alice/digits")
    with world.database.reading() as session:
        assert all(row.ended_at is not None for row in session.query(UsageRow))


def test_what_the_hub_tells_is_taken_in_once(world: World) -> None:
    events = HubEvents(world.home.hub_events)
    began = datetime.now(UTC) - timedelta(hours=2)
    span = ServerSpan(server="alice", profile="small", cpus=1, gpus=0, price_per_hour=0.5)

    def tell(act: str, at: datetime, ended: bool, identity: str) -> None:
        events.tell(
            HubEvent(
                id=identity,
                at=at,
                actor="alice",
                act=act,
                object="servers/alice",
                owner="alice",
                outcome=Outcome.DONE,
                span=span.model_copy(update={"ended": ended}),
            )
        )

    for _ in range(2):  # as if the service had been killed before it removed the file
        tell("server start", began, False, "hub-1")
        keep_house(world)
    assert lines(world, by="server")["alice"]["cost"] == pytest.approx(1, rel=0.01)
    tell("server stop", began + timedelta(hours=1), True, "hub-2")
    (world.home.hub_events / "0-broken.json").write_text("{")
    keep_house(world)
    assert lines(world, by="server")["alice"]["cost"] == pytest.approx(0.5, rel=0.01)
    assert not list(world.home.hub_events.glob("*.json"))
    entries = world.ok("GET", "/audit?object=servers/")["items"]
    assert [entry["act"] for entry in entries] == ["server stop", "server start"]
    assert {entry["via"] for entry in entries} == {"hub"}
    assert not verify(world.services.audit).problem


def test_a_server_that_the_hub_does_not_know_any_more_ended_when_last_seen(world: World) -> None:
    usage, now = SqlUsageRecords(world.database), datetime.now(UTC)
    usage.open_server("alice", "alice", "small", 1, 0, 1.0, now - timedelta(hours=3))
    usage.note_servers(["alice"], now - timedelta(hours=2))
    usage.note_servers([], now)
    assert lines(world, by="server")["alice"]["hours"] == pytest.approx(1, rel=0.01)


def test_used_up_hours_refuse_submit_plan_and_resume(gpus: World) -> None:
    run = gpus.submit(**GPUS)
    token = gpus.run_token(run)
    for kind in ("started", "succeeded"):
        gpus.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": kind})
    quotas(gpus, "period: day\ndefault: {gpu_hours: 0}\n")
    body = {
        "name": "cnn",
        "snapshot": {"digest": gpus.upload(b"a snapshot"), "python": PYTHON, "client": "0"},
        **GPUS,
    }
    for path, sent in (("/runs", body), ("/runs/plan", body), (f"/runs/{run['id']}/resume", {})):
        refused = gpus.call("POST", path, json=sent)
        assert refused.status_code == 403, refused.text
        assert "GPU-hours of this day" in refused.json()["error"]["message"]
        assert "renew on" in refused.json()["error"]["remedy"]
    gpus.submit(resources={"workers": 1})


def test_a_run_whose_hours_run_out_is_stopped_in_good_order_and_told_why(gpus: World) -> None:
    run, other = gpus.submit(**GPUS), gpus.submit(resources={"workers": 1})
    token = gpus.run_token(run)
    gpus.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "started"})
    keep_house(gpus)
    assert gpus.ok("GET", f"/runs/{run['id']}")["state"] == "running"
    quotas(gpus, "period: day\ndefault: {gpu_hours: 0}\n")
    keep_house(gpus)
    keep_house(gpus)  # a repeat changes nothing
    assert gpus.ok("GET", f"/runs/{run['id']}")["reason"] == "stopping: out of hours"
    gpus.tick()
    assert gpus.training.stopped == [f"{run['id']}-1"]
    ended = gpus.ok("GET", f"/runs/{run['id']}")
    assert ended["state"] == "failed"
    assert "GPU-hours of this day" in ended["error"]["message"]
    assert f"%aiaas resume {run['id']}" in ended["error"]["remedy"]
    assert gpus.ok("GET", f"/runs/{other['id']}")["state"] == "starting"
    [entry] = gpus.ok("GET", "/audit?act=stop_run")["items"]
    assert (entry["via"], entry["actor"], entry["owner"]) == ("service", "aiaas", "alice")


def test_a_run_that_ends_in_good_order_when_stopped_keeps_what_it_made(gpus: World) -> None:
    run = gpus.submit(**GPUS)
    token = gpus.run_token(run)
    gpus.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "started"})
    quotas(gpus, "period: day\ndefault: {gpu_hours: 0}\n")
    keep_house(gpus)
    gpus.ok("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "succeeded"})
    ended = gpus.ok("GET", f"/runs/{run['id']}")
    assert ended["state"] == "succeeded"
    assert "GPU-hours" in ended["reason"]


def test_limits_of_the_file_hold_in_the_queue_from_one_moment_to_the_next(world: World) -> None:
    first, second = world.submit(), world.submit()
    quotas(world, "users: {alice: {runs: 1}}\n")
    world.tick()
    states = [world.ok("GET", f"/runs/{run['id']}")["state"] for run in (first, second)]
    assert states == ["starting", "queued"]
    assert world.ok("GET", "/me")["quota"]["runs"]["limit"] == 1
    quotas(world, "users: {alice: {runs: 2}}\n# changed\n")
    world.tick()
    assert world.ok("GET", f"/runs/{second['id']}")["state"] == "starting"


def test_storage_and_endpoints_are_refused_in_words(world: World) -> None:
    world.dataset()
    world.published()
    quotas(world, "default: {storage_gb: 0, endpoints: 1}\n")
    for method, path, body in (
        ("POST", "/blobs", None),
        ("POST", "/datasets/alice/more/versions", {"uri": "/x.csv"}),
        ("POST", "/endpoints/alice/more/publish", {"model": "cnn"}),
    ):
        refused = world.call(method, path, json=body)
        assert refused.status_code == 403, refused.text
        assert refused.json()["error"]["remedy"]
    again = world.call("POST", "/endpoints/alice/digits/publish", json={"model": "cnn"})
    assert again.status_code == 202, again.text
    me = world.ok("GET", "/me")
    assert {one["name"]: one["limit"] for one in me["allowances"]} == {
        "storage": 0,
        "endpoints": 1,
    }
    assert world.ok("GET", "/quotas")[0]["used"] > 0


def test_a_broken_quotas_file_starts_nothing_and_stops_nothing(world: World) -> None:
    going_on = world.submit()
    world.tick()
    quotas(world, "default: [\n")
    refused = world.call("POST", "/blobs", content=b"x")
    assert refused.status_code == 503
    assert "quotas" in refused.json()["error"]["message"]
    keep_house(world)
    assert world.ok("GET", f"/runs/{going_on['id']}")["state"] == "starting"
    # Who looks is answered.
    for path in ("/me", "/runs", "/usage", "/quotas"):
        world.ok("GET", path)


def test_users_see_their_own_and_administrators_everybodys(gpus: World) -> None:
    for token in ("user:alice", "user:bob"):
        gpus.submit(token, **GPUS)
    gpus.tick()
    backdate(gpus, 1)
    gpus.services.members.replace({"alice": ["team"], "bob": []})
    assert set(lines(gpus, "user:bob", by="user")) == {"bob"}
    assert set(lines(gpus, "admin:root", by="user")) == {"alice", "bob"}
    assert set(lines(gpus, "admin:root", by="group")) == {"team", "(no group)"}
    assert set(lines(gpus, "admin:root", by="user", owner="bob")) == {"bob"}
    for path in ("/usage?owner=alice", "/usage/csv?owner=alice", "/quotas?owner=alice"):
        assert gpus.call("GET", path, "user:bob").status_code == 404
    assert gpus.call("GET", "/usage?since=2026-01-01T00:00:00").status_code == 400


def test_the_table_for_spreadsheets_holds_no_formula(world: World) -> None:
    usage = SqlUsageRecords(world.database)
    began = datetime.now(UTC) - timedelta(hours=1)
    usage.open_server("=cmd|'/c calc'!A1", "alice", "small", 1, 0, 2.0, began)
    since = (began - timedelta(hours=1)).isoformat()
    answer = world.call("GET", "/usage/csv", params={"by": "server", "since": since})
    assert answer.headers["content-type"].startswith("text/csv")
    [line] = csv.DictReader(io.StringIO(answer.text))
    assert line["server"] == "'=cmd|'/c calc'!A1"
    assert float(line["cost"]) == pytest.approx(2, rel=0.01)


def test_resources_of_what_is_metered_are_those_that_were_asked_for(gpus: World) -> None:
    run = gpus.submit(**GPUS)
    gpus.tick()
    [span] = gpus.services.usage.spans(None, datetime.now(UTC) - timedelta(hours=1))
    asked = Resources.model_validate(run["resources"])
    assert (span.workers, span.gpus) == (asked.workers, asked.workers * asked.gpus_per_worker)
