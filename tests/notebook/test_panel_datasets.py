"""The dataset browser's view-model on the real service, with no page before it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pandas as pd
import pytest
from api_world import World
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import InvalidInput, Unavailable
from aiaas_magics.panels import dataset_browser
from aiaas_magics.panels.background import KernelLoop
from aiaas_magics.panels.dataset_browser import DatasetBrowser
from aiaas_magics.panels.dataset_browser_widget import DatasetBrowserWidget
from aiaas_magics.parsing import parsers, split

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def browser(world: World) -> DatasetBrowser:
    rows = range(1, 61)
    frame = pd.DataFrame(
        {"price": list(rows), "city": [f"{HOSTILE} {n}" for n in rows], "a {b} 'c'": [1.5] * 60}
    )
    aiaas.datasets.put("sales", frame, description=f"What was <b>sold</b> {HOSTILE}")
    aiaas.datasets.put("letters", pd.DataFrame({"x": [None, "y" * 500]}))
    model: DatasetBrowser = aiaas.panel("datasets").model
    return model


def texts(table: dict[str, Any], column: int) -> list[Any]:
    return [row[column] for row in table["rows"]]


def test_a_list_is_searched(browser: DatasetBrowser) -> None:
    assert [item["name"] for item in browser.listing["items"]] == ["alice/letters", "alice/sales"]
    browser.take({"do": "search", "words": "sold"})
    (found,) = browser.listing["items"]
    assert (found["title"], found["rows"], found["version"]) == ("alice/sales", "60", 1)
    # A page puts texts in as texts: they are not escaped twice.
    assert HOSTILE in found["about"]
    browser.search("nothing-like-it")
    assert browser.listing["items"] == []
    assert "nothing-like-it" in browser.listing["empty"]


def test_an_empty_list_says_what_to_type(world: World) -> None:
    panel = aiaas.panel("datasets")
    assert "aiaas.datasets.put('name', df)" in panel.model.listing["empty"]
    assert "aiaas.datasets.put('name', df)" in repr(panel)


def test_rows_are_paged_filtered_and_sorted_there(browser: DatasetBrowser) -> None:
    browser.take({"do": "choose", "name": "alice/sales"})
    assert browser.chosen["title"] == "alice/sales@1"
    assert [name for name, _, _ in browser.chosen["columns"]] == ["price", "city", "a {b} 'c'"]
    assert texts(browser.table, 0) == [str(n) for n in range(1, 21)]
    assert browser.table["more"]
    browser.take({"do": "page", "offset": 20})
    assert texts(browser.table, 0) == [str(n) for n in range(21, 41)]
    assert "21 to 40" in browser.table["caption"]
    browser.take(
        {"do": "look", "columns": ["price"], "where": " price > 50 ", "sort": "price:desc"}
    )
    assert texts(browser.table, 0) == [str(n) for n in range(60, 50, -1)]
    assert (browser.table["more"], browser.table["offset"]) == (False, 0)
    browser.take({"do": "look", "columns": [], "where": "price > 100", "sort": ""})
    assert browser.table["rows"] == []
    assert browser.table["empty"] == "No row fulfils the condition."
    assert browser.error == ""


def test_what_is_shown_can_be_loaded_by_the_line(
    browser: DatasetBrowser, notebook: Notebook
) -> None:
    browser.choose("alice/sales")
    assert browser.table["line"] == "%aiaas load sales@1 --into df"
    where = f"price < 4 and city <> '{HOSTILE} {{2}}'"
    browser.look(["a {b} 'c'", "price"], where)
    notebook.run(browser.table["line"])
    frame = notebook.run("df")
    assert frame.columns.tolist() == ["a {b} 'c'", "price"]
    assert frame.price.tolist() == [1, 2, 3]
    args = parsers()["load"].parse(split(browser.line.partition(" load ")[2], {"b": "no"}))
    assert args.where == where


def test_versions_and_a_profile(browser: DatasetBrowser, world: World) -> None:
    aiaas.datasets.put("sales", pd.DataFrame({"price": [1, None]})).tag("golden")
    browser.choose("alice/sales")
    assert browser.chosen["version"] == 2
    assert [row[0] for row in browser.chosen["versions"]["rows"]] == [2, 1]
    assert "golden" in browser.chosen["versions"]["rows"][0]
    browser.take({"do": "choose", "name": "alice/sales", "version": 1})
    assert browser.table["line"].startswith("%aiaas load sales@1 ")
    assert browser.chosen["profile"] is None
    stop = threading.Event()
    work = threading.Thread(target=lambda: [world.tick() for _ in iter(stop.is_set, True)])
    work.start()
    browser.take({"do": "profile"})
    stop.set()
    work.join()
    profile = browser.chosen["profile"]
    assert "60 rows" in profile["caption"]
    assert profile["rows"][0][0] == "price"
    # Whoever looks at it next finds it there.
    browser.choose("alice/sales", 1)
    assert browser.chosen["profile"] == profile


def test_mistakes_are_sentences_and_leave_what_was_shown(browser: DatasetBrowser) -> None:
    browser.choose("alice/sales")
    before = browser.table
    browser.look([], "price >")
    assert browser.error
    assert browser.table == before
    browser.look(["nothing"])
    assert "no column 'nothing'" in browser.error
    browser.choose("bob/secret")
    assert "no dataset" in browser.error.lower()
    assert browser.chosen["title"] == "alice/sales@1"
    for message in (None, [], {"do": "retire"}, {"do": "page", "offset": "x"}, {"do": "look"}):
        browser.take(message)
    assert browser.error == ""
    assert not browser.busy


def test_more_are_asked_for_as_they_are_wanted(
    browser: DatasetBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_browser, "LISTED", 1)
    browser.search()
    assert [item["name"] for item in browser.listing["items"]] == ["alice/letters"]
    assert browser.listing["more"]
    browser.take({"do": "more"})
    assert [item["name"] for item in browser.listing["items"]] == ["alice/letters", "alice/sales"]
    assert not browser.listing["more"]


def test_long_cells_are_short_and_whole(browser: DatasetBrowser) -> None:
    browser.choose("alice/letters")
    empty, long = texts(browser.table, 0)
    assert empty is None
    assert len(long["text"]) == 80
    assert long["all"] == "y" * 500
    json.dumps(browser.table)


def test_where_there_is_no_page_it_is_a_table(browser: DatasetBrowser, notebook: Notebook) -> None:
    panel = notebook.run("%aiaas panel datasets")
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "alice/sales" in bundle["text/plain"]
    assert "%aiaas preview" in bundle["text/plain"]
    assert "<img" not in bundle["text/html"]


def test_what_cannot_be_shown_says_so(
    notebook: Notebook, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match=r"no panel 'dataset'\. There are 'datasets'"):
        aiaas.panel("dataset")
    assert "invalid choice" in notebook.refuses("%aiaas panel dataset")
    monkeypatch.setenv("AIAAS_URL", "http://127.0.0.1:9/services/aiaas")
    assert "cannot be reached" in repr(aiaas.panel("datasets"))
    monkeypatch.delenv("AIAAS_URL")
    with pytest.raises(Unavailable, match="AIAAS_URL is not set"):
        aiaas.panel("datasets")


def test_a_widget_says_what_the_model_knows(browser: DatasetBrowser) -> None:
    widget = DatasetBrowserWidget(browser)
    assert widget.listing == browser.listing
    widget._handle_custom_msg({"do": "choose", "name": "alice/sales"}, [])
    assert widget.table == browser.table
    assert widget.table["rows"]
    widget.close()


def test_nothing_blocks_the_loop_and_the_newest_wins() -> None:
    """As in a kernel: calls in threads, results on the loop, in the order of what was wanted."""
    main = threading.get_ident()
    seen: list[tuple[str, bool]] = []
    first = threading.Event()

    def slow() -> str:
        first.wait(30)
        return "old"

    async def kernel() -> None:
        beside = KernelLoop()

        def take(value: str) -> None:
            seen.append((value, threading.get_ident() == main))

        beside.run("slot", slow, take, take)
        beside.run("slot", lambda: "new", take, take)
        beside.run("other", lambda: 1 / 0, take, take)  # type: ignore[arg-type,return-value]
        beside.follow("feed", lambda: iter(["a", "b"]), take, take)
        until = time.monotonic() + 30
        while len(seen) < 4 and time.monotonic() < until:
            await asyncio.sleep(0.01)
        first.set()
        await asyncio.sleep(0.05)
        beside.run("slot", lambda: "closed", take, take)
        beside.close()
        await asyncio.sleep(0.05)

    asyncio.run(kernel())
    values = [value for value, _ in seen]
    assert sorted(value for value in values if len(value) < 5) == ["a", "b", "new"]
    assert any("ZeroDivisionError" in value for value in values)
    assert len(values) == 4
    assert all(on_main for _, on_main in seen)
