"""A server that has reached its profile's lifetime is stopped, once, whatever it does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.spawner import SimpleLocalProcessSpawner

from aiaas_hub.spawner.local import LocalSpawner
from aiaas_hub.spawner.profiles import Offer, choose, load_profiles

PROFILES = """
profiles:
  - {slug: brief, name: Brief, description: B, cpus: 1, memory: 1G, max_lifetime: 1m, default: true}
  - {slug: endless, name: Endless, description: E, cpus: 1, memory: 1G}
"""


@pytest.fixture
def spawner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a server that runs; `stopped` lists what was stopped."""
    file = tmp_path / "profiles.yaml"
    file.write_text(PROFILES)

    async def runs(_: object) -> None:
        return None

    monkeypatch.setattr(SimpleLocalProcessSpawner, "poll", runs)
    stopped: list[str] = []

    async def stop(name: str) -> None:
        stopped.append(name)

    made = LocalSpawner()
    made.user = SimpleNamespace(name="ada", stop=stop)
    made.orm_spawner = SimpleNamespace(name="", started=None, server=None, state={})
    made.stopped = stopped
    made.every = [Offer(profile) for profile in load_profiles(file).profiles]
    return made


async def look_twice(spawner: Any, profile: str, started: datetime | None) -> list[str]:
    spawner._chosen = choose(spawner.every, {"profile": profile})
    # As the hub's database gives it: UTC, and without saying so.
    spawner.orm_spawner.started = started and started.replace(tzinfo=None)
    for _ in range(2):
        assert await spawner.poll() is None
        await asyncio.sleep(0)
    return list(spawner.stopped)


@pytest.mark.parametrize(
    ("profile", "age", "stops"),
    [
        ("brief", timedelta(seconds=61), [""]),
        ("brief", timedelta(seconds=30), []),
        ("brief", None, []),
        ("endless", timedelta(days=400), []),
    ],
)
def test_a_server_lives_as_long_as_its_profile_says(
    spawner: Any, profile: str, age: timedelta | None, stops: list[str]
) -> None:
    started = None if age is None else datetime.now(UTC) - age
    assert asyncio.run(look_twice(spawner, profile, started)) == stops
