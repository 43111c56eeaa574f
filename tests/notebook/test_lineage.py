"""From an answer back to the code and the SQL that it came from."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pandas as pd
from api_world import World
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.schemas.lineage import LineageNode
from aiaas_magics import lineage_graph

CHEAP = "SELECT id, price FROM sales WHERE price < 1"
EVEN = "SELECT c.id FROM cheap c JOIN sales s USING (id) WHERE id % 2 = 0"
CELL = "def train(ctx):\n    return 'this very cell'\n"


def train(world: World, notebook: Notebook) -> Any:
    """A run of a cell on data that two queries made, with a model."""
    frame = pd.DataFrame({"id": range(100), "price": [n % 7 / 2 for n in range(100)]})
    aiaas.datasets.put("sales", frame)
    notebook.run(f"%%aiaas sql --save cheap\n{CHEAP}")
    notebook.run(f"%%aiaas sql --save even\n{EVEN}")
    run = notebook.run(f"%%aiaas train --name cnn --dataset even --detach\n{CELL}")
    world.tick()
    token = next(s.token for s in world.training.submissions if s.id.startswith(run.id))
    path = f"/runs/{run.id}/job"
    world.ok("PUT", f"{path}/model", token, json=world.hand_over())
    for event in ({"kind": "started"}, {"kind": "succeeded"}):
        world.ok("POST", f"{path}/events", token, json=event)
    return run


def test_from_an_answers_header_to_the_cell_and_the_sql(
    gateway: Any, working: World, notebook: Notebook
) -> None:
    run = train(working, notebook)
    endpoint = notebook.run(f"%aiaas publish digits --run {run.id}")
    endpoint.predict(np.ones((1, 3), np.float32))
    # What `x-aiaas-model-version` says.
    assert endpoint.last_version == 1
    lineage = notebook.run(f"%aiaas lineage digits@{endpoint.last_version}")

    named = {node.id: node for node in lineage.nodes}
    (top,) = [node for node in lineage.nodes if node.kind == "endpoint"]
    assert top.name == "alice/digits@1"
    (model,) = [named[one] for one in top.of]
    (made,) = [named[one] for one in model.of]
    (even,) = [named[one] for one in made.of]
    (query,) = [named[one] for one in even.of]
    assert (model.name, even.name) == ("alice/cnn@1", "alice/even@1")
    assert made.text.endswith(CELL)
    assert query.text.strip() == EVEN
    assert sorted(query.of) == ["dataset:alice/cheap@1", "dataset:alice/sales@1"]
    assert named["dataset:alice/sales@1"].of == []
    assert "100 rows" in named["dataset:alice/sales@1"].note

    assert lineage.source.endswith(CELL)
    assert {name: sql.strip() for name, sql in lineage.queries.items()} == {
        "alice/even@1": EVEN,
        "alice/cheap@1": CHEAP,
    }
    assert lineage.datasets == ["alice/even@1"]
    assert lineage.is_whole
    text = repr(lineage)
    assert f"alice/cheap@1: SQL on duckdb: {CHEAP}" in text
    assert "made by: alice/sales@1: upload by alice" in text
    html = lineage._repr_mimebundle_()["text/html"]
    assert "the query of alice/even@1" in html
    assert html.count("<rect") == len(lineage.nodes) == 8
    # The same from the model and from the run.
    for thing in ("model:cnn@1", run.id):
        assert notebook.run(f"%aiaas lineage {thing}").queries == lineage.queries


def test_a_datasets_lineage_is_drawn_too(world: World, notebook: Notebook) -> None:
    aiaas.datasets.put("sales", pd.DataFrame({"id": range(10), "price": 0.5}))
    notebook.run(f"%%aiaas sql --save cheap\n{CHEAP}")
    html = notebook.run("%aiaas lineage cheap")._repr_mimebundle_()["text/html"]
    assert html.count("<rect") == 3


def test_who_may_not_read_the_data_is_told_no_sql(
    working: World, notebook: Notebook, monkeypatch: Any
) -> None:
    run = train(working, notebook)
    working.ok("PATCH", "/datasets/alice/even", json={"visibility": "everyone"})
    seen = working.ok("GET", f"/runs/{run.id}/lineage", "admin:root")
    assert EVEN in str(seen["nodes"])
    seen = working.ok("GET", "/datasets/alice/even/lineage", "user:bob")
    assert [node["note"] for node in seen["nodes"] if node["name"] == "alice/sales@1"] == [
        "not yours to read"
    ]
    assert CHEAP not in str(seen["nodes"])


def node(name: str, *of: str, kind: Any = "dataset", text: str = "") -> LineageNode:
    return LineageNode(id=name, kind=kind, name=name, text=text, of=list(of))


def test_the_drawing_has_its_arrows_from_left_to_right_and_no_markup_of_names() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    nodes = [
        node("e", "m", kind="endpoint"),
        node("m", "r", kind="model"),
        node("r", "a", "b", kind="run", text=hostile),
        node("a", "b"),
        node("b"),
        node(hostile * 3),
    ]
    html = lineage_graph.html(nodes)
    assert "<img" not in html
    svg = ET.fromstring(html.removeprefix(html[: html.index("<svg")]).removesuffix("</div>"))  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"
    boxes = {
        str(group.findtext(f"{space}title")).split("\n")[0]: group.find(f"{space}rect")
        for group in svg.iter(f"{space}g")
    }
    left = {name: int(box.get("x", "")) for name, box in boxes.items() if box is not None}
    assert left["b"] == 0 < left["a"] < left["r"] < left["m"] < left["e"]
    # An arrow and its head for each of the five.
    assert len(list(svg.iter(f"{space}path"))) == 2 * 5
    # Colours are the theme's.
    assert "var(--jp-ui-font-color1,currentColor)" in html
    places = [(box.get("x"), box.get("y")) for box in boxes.values() if box is not None]
    assert len(set(places)) == len(nodes)


def test_what_is_too_much_or_too_little_to_see_is_not_drawn() -> None:
    assert lineage_graph.html([node("a")]) == ""
    assert lineage_graph.html([node(str(n)) for n in range(61)]) == ""
    # A damaged answer is no endless loop.
    assert "<rect" in lineage_graph.html([node("a", "b"), node("b", "a")])
