"""What is installed on a cluster of others, as the runs there tell."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api_world import World, serving
from sqlalchemy import update

import aiaas_hub.app
from aiaas_hub.adapters.records.tables import EnvironmentRow
from aiaas_hub.home import Home

PYTHON = aiaas_hub.app.PYTHON
TOLD = {"python": PYTHON, "client": "0.9.0", "packages": {"Torch": "2.1", "ruamel.yaml": "0.18"}}
ELSEWHERE = {"ray_address": "http://ray:8265"}


@pytest.fixture
def elsewhere(tmp_path: Path, records_url: str) -> Iterator[World]:
    with serving(Home(tmp_path / "home"), records_url, settings=ELSEWHERE) as made:
        yield made


def plan(world: World, python: str = PYTHON, token: str = "user:alice") -> Any:
    packages = {"torch": "2.9", "ruamel-yaml": "0.18", "nothing": "1"}
    snapshot = {"digest": "0" * 64, "python": python, "client": "0", "packages": packages}
    return world.call("POST", "/runs/plan", token, json={"name": "cnn", "snapshot": snapshot})


def environment(world: World) -> Any:
    return plan(world).json()["environment"]


def tell(world: World, run: Any, token: str, **changes: Any) -> None:
    world.ok("PUT", f"/runs/{run['id']}/job/environment", token, json={**TOLD, **changes})


def test_what_a_run_told_is_known_to_everybody_and_after_a_restart(
    tmp_path: Path, records_url: str
) -> None:
    home = Home(tmp_path / "home")
    with serving(home, records_url, settings=ELSEWHERE) as world:
        assert environment(world) is None
        run = world.submit("user:bob")
        token = world.run_token(run)
        assert world.ok("GET", f"/runs/{run['id']}/job", token)["tell_environment"]
        tell(world, run, token)
    with serving(home, records_url, settings=ELSEWHERE) as world:
        found = environment(world)
        assert (found["python"], found["client"]) == (PYTHON, "0.9.0")
        assert found["packages"] == {"torch": "2.1", "ruamel-yaml": "0.18", "nothing": None}
        assert found["told_at"]
    # Another cluster is not this one.
    with serving(home, records_url, settings={"ray_address": "http://new:8265"}) as world:
        assert environment(world) is None


def test_a_run_has_one_word_and_none_once_its_code_runs(elsewhere: World) -> None:
    run = elsewhere.submit()
    token = elsewhere.run_token(run)
    tell(elsewhere, run, token)
    tell(elsewhere, run, token, client="6.6.6")
    assert environment(elsewhere)["client"] == "0.9.0"
    later = elsewhere.submit()
    token = elsewhere.run_token(later)
    elsewhere.call("POST", f"/runs/{later['id']}/job/events", token, json={"kind": "started"})
    tell(elsewhere, later, token, client="6.6.6")
    assert environment(elsewhere)["client"] == "0.9.0"


def test_the_pythons_of_notebook_and_cluster_are_held_together_while_that_is_fresh(
    elsewhere: World,
) -> None:
    assert plan(elsewhere, "3.99").status_code == 400
    run = elsewhere.submit()
    tell(elsewhere, run, elsewhere.run_token(run), python="3.99")
    assert plan(elsewhere, "3.99").status_code == 200
    refused = plan(elsewhere)
    assert refused.status_code == 400
    assert "workers 3.99" in refused.json()["error"]["message"]
    # Somebody may have brought it up to date since.
    with elsewhere.database.transaction() as session:
        old = datetime.now(UTC) - timedelta(days=2)
        session.execute(update(EnvironmentRow).values(told_at=old))
    assert plan(elsewhere).status_code == 200


def test_the_platforms_own_ray_needs_nobody_to_tell(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    assert not world.ok("GET", f"/runs/{run['id']}/job", token)["tell_environment"]
    tell(world, run, token, python="3.99")
    assert environment(world)["python"] == PYTHON
    assert environment(world)["told_at"] is None
