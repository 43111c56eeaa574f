"""What a hub on another machine tells: it arrives, once, and only from that hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_world import PREFIX, World, serving

from aiaas_hub.adapters.hub_events import HubEvents
from aiaas_hub.adapters.records.usage import SqlUsageRecords
from aiaas_hub.home import Home
from aiaas_hub.housekeeping import Housekeeping, chores
from aiaas_hub.page.sessions import OAuthClient
from aiaas_hub.spawner.profiles import Profile
from aiaas_hub.spawner.telling import Sending, tell_of_server

SECRET = "the-service's"
GPU = Profile(slug="gpu", name="GPU", description="d", cpus=4, memory="1G", gpus=2)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    client = OAuthClient("service-aiaas", SECRET, "/authorize", "http://127.0.0.1:9", "/callback")
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'r.sqlite'}", client) as made:
        yield made


def address(world: World) -> str:
    return f"{str(world.client.base_url).partition('/services/')[0]}{PREFIX.rstrip('/')}"


def test_servers_of_another_machine_are_audited_and_metered(world: World, tmp_path: Path) -> None:
    there = tmp_path / "hub"
    there.mkdir()
    sending = Sending(HubEvents(there), address(world), SECRET)
    tell_of_server(str(there), "alice", "", GPU, ended=False)
    kept = next(there.iterdir()).read_bytes()
    with httpx.Client() as nobody, pytest.raises(httpx.HTTPStatusError, match="401"):
        sending.send(nobody)
    assert list(there.iterdir()), "what was not taken stays"
    with httpx.Client(headers={"Authorization": f"Bearer {SECRET}"}) as client:
        sending.send(client)
        # As if the hub had been killed before it removed the file.
        (there / "0-again.json").write_bytes(kept)
        tell_of_server(str(there), "alice", "", GPU, ended=True)
        sending.send(client)
        refused = client.post(f"{address(world)}/hub-events", content=b"{}")
        assert refused.status_code == 400, refused.text
        flood = client.post(f"{address(world)}/hub-events", content=b" " * 70_000)
        assert flood.status_code == 413
    assert not list(there.iterdir())
    events, usage = HubEvents(world.home.hub_events), SqlUsageRecords(world.database)
    Housekeeping(chores(world.services, usage, events, None)).tidy()
    entries = world.ok("GET", "/audit?object=servers/")["items"]
    assert [entry["act"] for entry in entries] == ["server stop", "server start"]
    [line] = world.ok("GET", "/usage", params={"by": "server"})["lines"]
    assert (line["key"], line["gpu_hours"] > 0) == ("alice", True)


def test_a_users_token_tells_nothing(world: World) -> None:
    answer = httpx.post(
        f"{address(world)}/hub-events", headers={"Authorization": "Bearer user:alice"}
    )
    assert answer.status_code == 401
