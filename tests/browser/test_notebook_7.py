"""Notebook 7, whose page has one document: magics, a widget and the side panel beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab_pages import (
    NASTY,
    RUN_MS,
    START_MS,
    choose,
    enter_lab,
    find_wrong,
    look,
    needs_extension,
    row,
    run_all,
    server_url,
)
from playwright.sync_api import Page, expect
from running_platform import RunningPlatform

from aiaas_hub.spawner.notebook_home import directory_name

pytestmark = [pytest.mark.platform, needs_extension]

NOTEBOOK = "seven.ipynb"
CELLS = (
    "%load_ext aiaas_magics\n"
    "import aiaas_magics as aiaas\n"
    "import pandas as pd\n"
    'stored = aiaas.datasets.put("in-seven", pd.DataFrame({"n": range(30)}))',
    "%aiaas datasets in-seven",
    "%%aiaas train --name in-seven --detach\n"
    "def train(ctx):\n"
    "    for step in range(1, 6):\n"
    "        ctx.report(step=step, loss=1 / step)",
    'aiaas.panel("datasets")',
    "",
)


@pytest.fixture
def notebook(page: Page, platform: RunningPlatform) -> Iterator[None]:
    """It is open in Notebook 7, and its cells have run."""
    enter_lab(page, platform, NASTY)
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    file: Path = platform.home.notebooks / directory_name(NASTY.lower()) / NOTEBOOK
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), file)
    page.goto(f"{server_url(platform, NASTY)}/notebooks/{NOTEBOOK}")
    page.locator(".jp-Cell").first.wait_for(timeout=START_MS)
    indicator = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    expect(indicator.first).to_be_attached(timeout=START_MS)
    run_all(page)
    prompt = page.locator(".jp-CodeCell .jp-InputPrompt").nth(len(CELLS) - 2)
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=RUN_MS)
    yield
    file.unlink()


@pytest.mark.usefixtures("notebook")
def test_notebook_7_has_magics_widgets_and_the_side_panel(page: Page) -> None:
    cells = page.locator(".jp-CodeCell")
    expect(cells.nth(1).get_by_role("cell", name="in-seven")).to_be_visible(timeout=RUN_MS)
    # The cell of a run follows it.
    run = page.get_by_role("region", name=re.compile("^Run in-seven "))
    expect(run.get_by_role("status").first).to_have_text("succeeded", timeout=RUN_MS)

    browser = page.get_by_role("group", name="Dataset browser")
    browser.get_by_role("button", name=re.compile("in-seven")).click()
    expect(browser.get_by_role("region", name="Rows").locator("tbody tr")).to_have_count(20)

    choose(page, "View", "Left Sidebar", "Show AIaaS Hub")
    panel = page.get_by_role("region", name="AIaaS Hub")
    data = row(panel, "Datasets", "in-seven")
    expect(data).to_be_visible(timeout=START_MS)
    last = cells.last.locator(".cm-content")
    last.click()
    data.hover()
    data.get_by_role("button", name="Insert code for in-seven").click()
    expect(last).to_have_text("%aiaas load in-seven --into in_seven")
    # What fills JupyterLab's middle is at the right, and the notebook stays.
    data.get_by_role("button").first.click()
    view = page.get_by_role("region", name="Dataset in-seven")
    expect(view.get_by_text("1 to 30 of 30")).to_be_visible(timeout=START_MS)
    row(panel, "Runs", "in-seven").get_by_role("button").first.click()
    opened = page.get_by_role("region", name=re.compile("^View of run"))
    expect(opened.get_by_role("img", name=re.compile("^loss by step"))).to_be_visible()
    expect(view).to_be_hidden()
    expect(last).to_be_visible()
    look(page, "notebook-7")
    assert find_wrong(page, "#aiaas-panel") == []
