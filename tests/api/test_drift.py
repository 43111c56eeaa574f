"""How the inputs of endpoints move, over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from api_world import PREFIX, World
from canary_calls import ENDPOINT

# What differs between the databases is in tests/contract/test_records.py.
pytestmark = pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)

HELD_OUT = np.arange(300, dtype=np.float32).reshape(100, 3)


def drift(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.ok("GET", f"{ENDPOINT}/drift")["versions"]
    return found


def published(world: World, onnx: bytes = b"one") -> None:
    world.published(onnx=onnx, held_out=len(HELD_OUT))


def gauge(world: World) -> list[str]:
    token = (world.home.secrets / "metrics_token").read_text().strip()
    answer = world.client.get(f"{PREFIX}metrics", headers={"Authorization": f"Bearer {token}"})
    lines = answer.text.splitlines()
    return [line for line in lines if line.startswith("aiaas_endpoint_input_drift{")]


def test_too_few_held_out_rows_are_said_at_once(world: World) -> None:
    world.published()
    (version,) = drift(world)
    assert (version["features"], version["rows"], version["reference_rows"]) == ([], 0, 4)
    assert version["reason"].startswith("The model came with 4 held-out rows")
    assert gauge(world) == []
    assert world.call("GET", f"{ENDPOINT}x/drift").status_code == 404


def test_what_moved_comes_first_once_enough_was_seen(world: World) -> None:
    published(world)
    (version,) = drift(world)
    assert version["reason"].startswith("0 of the 200 rows were seen")
    world.send(HELD_OUT)
    (version,) = drift(world)
    assert version["reason"].startswith("100 of the 200 rows were seen")
    assert gauge(world) == []
    world.send(HELD_OUT)
    (version,) = drift(world)
    assert (version["version"], version["percent"], version["rows"]) == (1, 100, 200)
    assert (version["reason"], version["reference_rows"]) == ("", 100)
    assert version["since"] is not None
    assert [feature["change"] for feature in version["features"]] == ["none"] * 3
    moved = np.tile(HELD_OUT, (5, 1))
    moved[:, 1] = 1e6
    world.send(moved)
    (version,) = drift(world)
    first, *others = version["features"]
    assert (first["name"], first["change"]) == ("x[1]", "much")
    assert {feature["change"] for feature in others} == {"none"}
    assert sum(first["seen"]) == pytest.approx(1)
    assert first["seen"][-1] > 0.7
    assert len(first["seen"]) == len(first["reference"]) == len(first["edges"]) + 1
    (line,) = gauge(world)
    assert line.startswith('aiaas_endpoint_input_drift{version="digits-')
    assert "alice" not in line
    assert float(line.partition("} ")[2]) == pytest.approx(first["psi"])
    # An engine that is away takes nothing along.
    world.serving.ready = False
    assert drift(world) == [version]


def test_each_version_has_its_own_counts(world: World) -> None:
    published(world)
    world.send(np.tile(HELD_OUT, (3, 1)))
    drift(world)
    published(world, b"two")
    newer, older = drift(world)
    assert [(v["version"], v["rows"]) for v in (newer, older)] == [(2, 0), (1, 300)]
    world.send(HELD_OUT[:7], version=2)
    assert [v["rows"] for v in drift(world)] == [7, 300]
    # What is no longer loaded is forgotten.
    published(world, b"three")
    assert [v["version"] for v in drift(world)] == [3, 2]
    assert {key[1] for key in world.services.drifting._windows} == {2, 3}
    world.ok("DELETE", ENDPOINT)
    assert drift(world) == []
    world.services.drifting._next = 0
    world.services.drifting.work()
    assert world.services.drifting._windows == {}


def test_an_engine_that_does_not_count_says_so(world: World) -> None:
    published(world)
    world.serving.references = dict.fromkeys(world.serving.references)
    world.services.drifting._references.clear()
    (version,) = drift(world)
    assert "publish it again" in version["reason"]
