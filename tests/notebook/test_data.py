"""The verbs of data in a shell, against the real service."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from api_world import World
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import InvalidInput


@pytest.fixture
def sales(world: World) -> Any:
    frame = pd.DataFrame({"id": range(100), "city": [f"c{i % 5}" for i in range(100)]})
    frame["price"] = frame["id"] % 7 / 2
    return aiaas.datasets.put("sales", frame)


def test_sql(world: World, notebook: Notebook, sales: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = notebook.run("%%aiaas sql\nSELECT city, count(*) AS n FROM {{sales}} GROUP BY city")
    assert len(result) == 5
    assert not result.is_cut
    assert "5 rows, 2 columns of alice/sales@1" in repr(result)
    assert "<table" in result._repr_mimebundle_()["text/html"]
    note = notebook.run("%%aiaas sql --into df --limit 2\nSELECT * FROM alice.sales ORDER BY id")
    assert notebook.run("df").id.tolist() == [0, 1]
    assert repr(note) == "df: 2 rows, 3 columns of alice/sales@1"
    saved = notebook.run(
        "%%aiaas sql --save cheap --into kept\nSELECT * FROM sales WHERE price < 1"
    )
    assert str(saved) == "alice/cheap@1"
    assert notebook.run("kept.rows") == saved.rows == 30
    assert notebook.run("%aiaas load cheap").price.max() == 0.5
    limits = world.services.querying._limits
    monkeypatch.setattr(world.services.querying, "_limits", type(limits)(7, 1 << 30, 1 << 30))
    cut = notebook.run("%%aiaas sql --into df\nFROM sales")
    assert "Cut at 7 rows" in repr(cut)
    assert "--save NAME" in repr(cut)
    shown = notebook.run("%%aiaas sql\nFROM sales")
    assert shown.is_cut
    assert repr(shown).startswith("Cut at 7 rows")
    assert "Cut at 7 rows" in shown._repr_mimebundle_()["text/html"]


def test_lineage_of_a_dataset(world: World, notebook: Notebook, sales: Any) -> None:
    notebook.run("%%aiaas sql --save cheap\nSELECT * FROM sales WHERE price < 1")
    notebook.run("%%aiaas sql --save few\nSELECT c.id FROM sales s JOIN cheap c USING (id)")
    lineage = notebook.run("%aiaas lineage few")
    assert (lineage.dataset, lineage.run) == ("alice/few@1", None)
    assert lineage.inputs == ["alice/cheap@1", "alice/sales@1"]
    assert lineage.datasets == lineage.inputs
    assert lineage.source.strip() == "SELECT c.id FROM sales s JOIN cheap c USING (id)"
    assert lineage.is_whole
    assert repr(lineage).splitlines() == [
        "Lineage",
        "  alice/few@1: query of alice/cheap@1, alice/sales@1 by alice: "
        "SELECT c.id FROM sales s JOIN cheap c USING (id) · 30 rows",
        "     ← alice/cheap@1: query of alice/sales@1 by alice: "
        "SELECT * FROM sales WHERE price < 1 · 30 rows",
        "        ← alice/sales@1: upload by alice · 100 rows",
        "     ← alice/sales@1: see above",
    ]
    assert "alice/cheap@1" in lineage._repr_mimebundle_()["text/html"]
    aiaas.datasets.get("cheap").tag("Golden.1")
    for thing in ("cheap@Golden.1", "dataset:cheap@1", "alice/cheap@latest"):
        assert notebook.run(f"%aiaas lineage {thing}").dataset == "alice/cheap@1"
    assert aiaas.datasets.get("cheap").lineage().inputs == ["alice/sales@1"]
    assert "no dataset cheap@7" in notebook.refuses("%aiaas lineage dataset:cheap@7")
    assert "no endpoint" in notebook.refuses("%aiaas lineage endpoint:cheap").lower()


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%aiaas sql\n  \n", "There is no query"),
        ("%%aiaas sql\nSELECT * FROM nothing", "no dataset nothing"),
        ("%%aiaas sql\nSELECT * FROM bob.sales", "no dataset sales"),
        ("%%aiaas sql\nSELEC", "syntax error"),
        ("%%aiaas sql\nDROP TABLE sales", "a DROP"),
        ("%%aiaas sql\nSELECT * FROM read_text('/etc/passwd')", "read_text may not be used"),
        ("%%aiaas sql --save a@2\nSELECT 1", "has a version"),
        ("%%aiaas sql --save a --limit 3\nSELECT 1", "write LIMIT"),
        ("%aiaas preview sales --where 'nope > 1'", "nope"),
        ("%aiaas preview sales --sort nope", "no column 'nope'"),
        ("%aiaas load sales --where ''", "empty"),
    ],
)
def test_a_query_that_cannot_be(
    world: World, notebook: Notebook, sales: Any, cell: str, says: str
) -> None:
    assert says in notebook.refuses(cell)


def test_a_query_on_spark(world: World, notebook: Notebook, sales: Any) -> None:
    pytest.importorskip("pyspark", reason="needs Spark: pip install 'aiaas-hub[spark]'")
    query = "SELECT city, sum(price) AS total FROM {{sales}} GROUP BY city ORDER BY city"
    notebook.run(f"%%aiaas sql --engine spark --into ours\n{query}")
    notebook.run(f"%%aiaas sql --into theirs\n{query}")
    assert notebook.run("ours.equals(theirs)")
    saved = notebook.run("%%aiaas sql --engine spark --save cheap\nFROM sales WHERE price < 1")
    assert saved.rows == 30
    assert saved.origin.engine == "spark"
    refused = notebook.refuses('%%aiaas sql --engine spark\nSELECT * FROM text."/etc/passwd"')
    assert "/etc/passwd" in refused
    refused = notebook.refuses(
        "%%aiaas sql --engine spark\nSELECT reflect('java.lang.System', 'x')"
    )
    assert "reflect may not be used" in refused


def test_a_preview_is_filtered_sorted_and_paged(
    world: World, notebook: Notebook, sales: Any
) -> None:
    page = notebook.run(
        """%aiaas preview sales -n 2 --columns id,price --where "city = 'c1'" """
        "--sort price:desc,id --offset 1"
    )
    assert page.rows == [[41, 3.0], [76, 3.0]]
    assert page.truncated
    assert "rows 2 to 3 that fulfil the condition, with more after them" in repr(page)
    plain = sales.preview(3, offset=10)
    assert [row[0] for row in plain.rows] == [10, 11, 12]
    assert "rows 11 to 13 of 100" in repr(plain)
    assert sales.preview(1, sort="id:desc").rows[0][0] == 99
    assert sales.to_arrow(where="id < 3", columns=["id"]).to_pydict() == {"id": [0, 1, 2]}


def test_profile(working: World, notebook: Notebook, sales: Any) -> None:
    profile = notebook.run("%aiaas profile sales")
    assert (profile.rows, profile.looked_at, profile.duplicates) == (100, 100, 0)
    assert profile["price"].quantiles["0.5"] == 1.5
    text = repr(profile)
    assert "alice/sales@1: 100 rows, 3 columns; 0 duplicate rows" in text
    assert "c0: 20, c1: 20, c2: 20, …; balance 1.00" in text
    assert "█" in text
    html = profile._repr_mimebundle_()["text/html"]
    assert html.count("<img alt=") == 3
    assert "image/svg+xml" in html
    # Computed once: there is nothing to wait for.
    assert sales.profile(wait=False).columns == ["id", "city", "price"]
    with pytest.raises(InvalidInput, match="no column 'nope'"):
        profile["nope"]


def test_a_profile_that_is_not_done_goes_on_there(
    world: World, notebook: Notebook, sales: Any
) -> None:
    assert sales.profile(wait=False) is None
    assert sales.profile(timeout=0) is None
    world.tick()
    assert sales.profile(timeout=0) is not None
    assert "no dataset nothing" in notebook.refuses("%aiaas profile nothing")


def test_a_dataset_is_described_shared_and_found(
    world: World, notebook: Notebook, sales: Any
) -> None:
    card = notebook.run(
        "%aiaas dataset sales --describe 'Prices **by city**' --licence CC0 --tags gold,raw"
        " --share everyone"
    )
    assert (card.tags, card.licence, card.shared_with) == (["gold", "raw"], "CC0", "everyone")
    assert "about: Prices **by city**" in repr(card)
    assert "<b>by city" not in card._repr_mimebundle_()["text/html"]
    assert [d.name for d in notebook.run("%aiaas datasets --search 'tag:gold price'")] == ["sales"]
    assert "everyone" in repr(notebook.run("%aiaas datasets --owner alice"))
    assert "words match 'snow'" in repr(notebook.run("%aiaas datasets --search snow"))
    assert "no group 'team'" in notebook.refuses("%aiaas dataset sales --share group:team")
    assert "Nobody is called" in notebook.refuses("%aiaas dataset sales --share bob")
    assert notebook.run("%aiaas dataset sales --share private").shared_with == "private"


def test_versions_are_named_compared_and_retired(
    working: World, notebook: Notebook, sales: Any
) -> None:
    notebook.run(
        "%%aiaas sql --save sales\nSELECT * REPLACE (price + 10 AS price) FROM {{sales@1}}"
    )
    assert str(notebook.run("%aiaas tag sales@1 golden")) == "alice/sales@1"
    assert notebook.run("%aiaas load sales@golden").price.max() == 3.0
    history = repr(notebook.run("%aiaas dataset sales --history"))
    assert "golden" in history
    assert "query of alice/sales@1 by alice: SELECT * REPLACE" in history
    diff = notebook.run("%aiaas diff sales golden latest")
    assert diff.rows == (100, 100)
    assert [change.name for change in diff.changes] == ["price"]
    assert "alice/sales: @1 → @2" in repr(diff)
    assert "1.00" in repr(diff)
    assert "<table" in diff._repr_mimebundle_()["text/html"]
    quick = notebook.run("%aiaas diff sales 1 1 --no-profiles")
    assert quick.same_content
    assert "Say which version" in notebook.refuses("%aiaas dataset sales --retire")
    assert "--restore" in repr(notebook.run("%aiaas dataset sales@2 --retire"))
    assert notebook.run("%aiaas dataset sales").version == 1
    assert "no dataset sales@2" in notebook.refuses("%aiaas preview sales@2")
    assert notebook.run("%aiaas dataset sales@2 --restore").version == 2
    assert "golden any more" in repr(notebook.run("%aiaas tag sales golden --remove"))
    assert "no dataset sales@golden" in notebook.refuses("%aiaas load sales@golden")
    assert "cannot be a tag" in notebook.refuses("%aiaas load sales@b!")


def test_a_run_has_the_version_that_a_tag_meant(
    world: World, notebook: Notebook, sales: Any
) -> None:
    sales.tag("golden")
    aiaas.datasets.put("sales", pd.DataFrame({"x": [1]}))
    cell = "def train(ctx):\n    ctx.report(step=0, loss=1.0)\n"
    run = notebook.run(f"%%aiaas train --name cnn --dataset sales@golden --detach\n{cell}")
    assert [str(dataset) for dataset in run._record.datasets] == ["alice/sales@1"]
    assert "no dataset sales@silver" in notebook.refuses(
        f"%%aiaas train --name cnn --dataset sales@silver --detach\n{cell}"
    )
