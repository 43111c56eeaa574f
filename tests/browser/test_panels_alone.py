"""Panels in pages of their own, JupyterLab's and Notebook 7's, before the real service with engines
that stand in."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
import pytest
from api_world import PREFIX, World, serving
from lab_alone import lab
from lab_pages import (
    RUN_MS,
    START_MS,
    choose,
    find_wrong,
    go_dark,
    look,
    needs_extension,
    row,
    run_all,
    wait_for_kernel,
)
from panels_in_cells import KINDS, in_sight, panel, wrong_in
from playwright.sync_api import Page, expect

from aiaas_hub.home import Home

NOTEBOOK = "alone.ipynb"
GONE = re.compile("^This panel is not connected: the kernel was restarted")
HOSTILE = "<img src=x onerror=alert(1)>"
BEGIN = f"""\
%load_ext aiaas_magics
import aiaas_magics as aiaas
import pandas as pd
frame = pd.DataFrame({{"n": range(45), "{HOSTILE}": ["{HOSTILE}"] * 45}})
stored = aiaas.datasets.put("flowers", frame, description="{HOSTILE}")"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a notebook server's environment says of it: alice has a model, an endpoint and a run."""
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as world:
        world.published("doubled")
        world.submit()
        stop = threading.Event()
        reconciling = threading.Thread(target=_reconcile, args=(world, stop))
        reconciling.start()
        url = str(world.client.base_url.join(PREFIX))
        yield {"AIAAS_URL": url, "JUPYTERHUB_API_TOKEN": "user:alice"}
        stop.set()
        reconciling.join()


def _reconcile(world: World, stop: threading.Event) -> None:
    while not stop.wait(0.2):
        world.tick()


def write_notebook(home: Path, sources: Sequence[str]) -> Path:
    home.mkdir()
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    content = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(content, home / NOTEBOOK)
    return home


def test_a_restart_of_the_kernel_is_said_in_each_panel(
    page: Page, tmp_path: Path, service: dict[str, str]
) -> None:
    cells = [BEGIN, *(f'aiaas.panel("{kind}")' for kind in KINDS)]
    home = write_notebook(tmp_path / "notebooks", cells)
    with lab(home, f"lab/tree/{NOTEBOOK}", **service) as address:
        page.goto(address)
        wait_for_kernel(page)
        run_all(page)
        browser = page.get_by_role("group", name="Dataset browser")
        browser.get_by_role("button", name=re.compile("flowers")).click(timeout=RUN_MS)
        rows = browser.get_by_role("region", name="Rows").locator("tbody tr")
        expect(rows).to_have_count(20, timeout=RUN_MS)
        expect(panel(page, "deploy")).to_contain_text("version 1: 100 %", timeout=RUN_MS)
        runs = panel(page, "runs").get_by_role("listbox")
        runs.select_option(index=0, timeout=RUN_MS)
        expect(panel(page, "runs").get_by_role("button", name="Cancel the run")).to_be_visible()
        look(page, "panels-alone-light")
        wrong = {f"{kind}, light": wrong_in(page, kind) for kind in KINDS}
        go_dark(page)
        look(page, "panels-alone-dark")
        wrong |= {f"{kind}, dark": wrong_in(page, kind) for kind in KINDS}

        said = page.locator(".jp-NotebookPanel").get_by_text(GONE)
        expect(said.filter(visible=True)).to_have_count(0)
        choose(page, "Kernel", "Restart Kernel…")
        page.get_by_role("button", name="Confirm Kernel Restart", exact=True).click()
        for kind in KINDS:
            expect(in_sight(page, kind).get_by_text(GONE)).to_be_visible()
        look(page, "panels-without-their-kernel")
        # A server that is ended while it starts a kernel does not end.
        wait_for_kernel(page)
        # At last, so that one run shows all of it.
        assert {where: found for where, found in wrong.items() if found} == {}


@needs_extension
def test_notebook_7_has_magics_widgets_and_the_side_panel(
    page: Page, tmp_path: Path, service: dict[str, str]
) -> None:
    cells = (BEGIN, "%aiaas datasets flowers", 'aiaas.panel("datasets")', "")
    home = write_notebook(tmp_path / "notebooks", cells)
    with lab(home, f"notebooks/{NOTEBOOK}", **service) as address:
        page.set_viewport_size({"width": 1800, "height": 1200})
        page.goto(address)
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        expect(idle.first).to_be_attached(timeout=START_MS)
        run_all(page)
        shown = page.locator(".jp-CodeCell")
        listed = shown.nth(1).locator(".jp-OutputArea-output").first
        expect(listed).to_contain_text("flowers", timeout=RUN_MS)
        browser = page.get_by_role("group", name="Dataset browser")
        browser.get_by_role("button", name=re.compile("flowers")).click(timeout=RUN_MS)
        rows = browser.get_by_role("region", name="Rows").locator("tbody tr")
        expect(rows).to_have_count(20, timeout=RUN_MS)

        choose(page, "View", "Left Sidebar", "Show AIaaS Hub")
        side = page.get_by_role("region", name="AIaaS Hub")
        data = row(side, "Datasets", "flowers")
        expect(data).to_be_visible(timeout=START_MS)
        last = shown.last.locator(".cm-content")
        last.click()
        data.hover()
        data.get_by_role("button", name="Insert code for flowers").click()
        expect(last).to_have_text("%aiaas load flowers --into flowers")
        # What fills JupyterLab's middle is at the right, and the notebook stays.
        data.get_by_role("button").first.click()
        view = page.get_by_role("region", name="Dataset flowers")
        expect(view.get_by_text("1 to 45 of 45")).to_be_visible(timeout=START_MS)
        row(side, "Runs", "cnn").get_by_role("button").first.click()
        opened = page.get_by_role("region", name=re.compile("^View of run"))
        expect(opened.get_by_role("region", name=re.compile("^Run cnn"))).to_be_visible()
        expect(view).to_be_hidden()
        expect(last).to_be_visible()
        look(page, "notebook-7")
        assert find_wrong(page, "#aiaas-panel") == []
