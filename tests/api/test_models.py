"""Aliases and cards of models over HTTP."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from api_world import World

PATH = "/models/alice/cnn"


def test_an_alias_names_one_version_and_moves(world: World) -> None:
    world.model(onnx=b"one")
    world.model(onnx=b"two")
    named = world.ok("PUT", f"{PATH}/aliases/champion", json={"version": 1})
    assert (named["aliases"], named["latest"]["version"]) == ({"champion": 1}, 1)
    assert world.ok("GET", PATH, params={"alias": "champion"})["latest"]["version"] == 1
    assert world.ok("GET", PATH)["latest"]["version"] == 2
    world.ok("POST", "/endpoints/alice/digits/publish", json={"model": "cnn@champion"})
    world.tick()
    world.ok("PUT", f"{PATH}/aliases/champion", json={"version": 2})
    # What was published is a version, whatever is called so later.
    endpoint = world.ok("GET", "/endpoints/alice/digits")
    assert endpoint["versions"][0]["model"]["version"] == 1
    assert world.ok("GET", PATH, params={"alias": "champion"})["latest"]["version"] == 2
    assert world.ok("DELETE", f"{PATH}/aliases/champion")["aliases"] == {}


def test_an_alias_that_is_none(world: World) -> None:
    world.model()
    for alias in ("7", "v7", "Champion", "a b", "-x", "x" * 33):
        answer = world.call("PUT", f"{PATH}/aliases/{alias}", json={"version": 1})
        assert answer.status_code == 400, alias
    assert world.call("PUT", f"{PATH}/aliases/ok", json={"version": 9}).status_code == 404
    assert world.call("DELETE", f"{PATH}/aliases/ok").status_code == 404
    missing = world.call("GET", PATH, params={"alias": "ok"})
    assert missing.status_code == 404
    assert "%aiaas model cnn@V --alias ok" in missing.json()["error"]["remedy"]
    publish = world.call("POST", "/endpoints/alice/d/publish", json={"model": "cnn@ok"})
    assert publish.status_code == 404


def test_a_card_is_its_owners(world: World) -> None:
    world.model(onnx=b"one")
    world.model(onnx=b"two")
    card = {"description": "Reads digits.", "licence": "Apache-2.0", "metrics": {"f1": 0.97}}
    described = world.ok("PUT", f"{PATH}/card", params={"version": 1}, json=card)
    assert described["latest"]["card"] == card
    assert world.ok("GET", PATH)["latest"]["card"]["licence"] == ""
    assert world.call("PUT", f"{PATH}/card", "user:bob", json=card).status_code == 404
    long = {"description": "x" * 10_001}
    assert world.call("PUT", f"{PATH}/card", json=long).status_code == 400


def test_a_model_that_would_run_when_opened_is_never_opened(world: World, tmp_path: Path) -> None:
    """A pickle that would make a file, as the artifact, then as the rows it is compared on."""
    canary = tmp_path / "canary"

    class Canary:
        def __reduce__(self) -> Any:
            return (open, (str(canary), "w"))

    evil = pickle.dumps(Canary())
    for number, part in enumerate(("onnx", "evaluation"), 1):
        body = world.hand_over() | {part: world.upload(evil)}
        world.call("POST", "/models/alice/evil/versions", json=body)
        world.call("POST", f"/endpoints/alice/evil-{number}/publish", json={"model": "evil"})
        world.tick(2)
        found = world.call("GET", f"/endpoints/alice/evil-{number}")
        assert found.status_code == 404 or part == "onnx" or found.json()["state"] == "failed"
    assert not canary.exists()
