"""The walk of `docs/side-panel.md`, *First time*: from signing in to an endpoint that answers, by
what the screens say and nothing else. A picture of each screen is kept."""

from __future__ import annotations

import re

import pytest
from lab_pages import (
    RUN_MS,
    START_MS,
    choose_profile,
    go_dark,
    look,
    needs_extension,
    row,
    sign_in,
    start_server,
    wait_for_kernel,
)
from playwright.sync_api import Locator, Page, expect
from running_platform import RunningPlatform

pytestmark = [pytest.mark.platform, needs_extension]

USER = "nia"
TRAIN = """
import torch

def train(ctx):
    net = torch.nn.Linear(2, 1)
    for step in range(20):
        ctx.report(step=step, loss=1 / (1 + step))
    ctx.save_model(net.eval(), torch.zeros(4, 2))
"""


def test_a_new_user_trains_and_deploys(page: Page, platform: RunningPlatform) -> None:
    sign_in(page, platform, USER)
    choose_profile(page)
    look(page, "first-1-spawn")
    start_server(page)

    # The launcher leads to the panel.
    card = page.locator(".jp-LauncherCard", has_text="AIaaS Hub")
    card.click(timeout=START_MS)
    panel = page.get_by_role("region", name="AIaaS Hub")
    runs = panel.get_by_role("region", name="Runs", exact=True)
    expect(runs.get_by_text("%%aiaas train --name my-first")).to_be_visible()
    look(page, "first-2-panel")

    page.locator(".jp-LauncherCard[title*='Python 3']").first.click()
    wait_for_kernel(page)
    write(page, "%load_ext aiaas_magics")
    page.keyboard.press("Shift+Enter")
    runs.get_by_role("button", name="Insert %%aiaas train --name my-first").click()
    # The cursor is behind what was inserted.
    expect(cell(page)).to_contain_text("%%aiaas train --name my-first")
    cell(page).press("Control+End")
    # As one text: JupyterLab would indent what is typed after a colon.
    page.keyboard.insert_text(TRAIN)
    look(page, "first-3-cell")
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-CodeCell", has_text="%%aiaas train").locator(".jp-OutputArea")
    expect(output.get_by_text("succeeded", exact=True).first).to_be_visible(timeout=RUN_MS)
    look(page, "first-4-run")

    row(panel, "Runs", "my-first").get_by_role("button").first.click()
    view = page.get_by_role("region", name=re.compile("^View of run"))
    line = view.get_by_role("listitem").filter(has_text="%aiaas publish my-first --run ")
    expect(line).to_be_visible()
    look(page, "first-5-view")
    line.get_by_role("button", name=re.compile("^Insert: ")).click()
    expect(cell(page)).to_contain_text("%aiaas publish my-first --run ")
    cell(page).press("Shift+Enter")
    published = page.locator(".jp-CodeCell", has_text="%aiaas publish").locator(".jp-OutputArea")
    expect(published.get_by_text("serving").first).to_be_visible(timeout=RUN_MS)
    look(page, "first-6-published")

    # Seen since a cell made it, long before the list is due.
    found = row(panel, "Endpoints", "my-first").get_by_role("button").first
    expect(found).to_be_visible(timeout=15_000)
    found.click()
    endpoint = page.get_by_role("region", name="Endpoint my-first")
    rows = endpoint.get_by_role("textbox", name="Rows")
    expect(rows).to_have_value("0 0")
    rows.fill("1 2")
    endpoint.get_by_role("button", name="Ask it", exact=True).click()
    expect(endpoint.get_by_text("answered by version 1", exact=True)).to_be_visible()
    look(page, "first-7-endpoint")
    go_dark(page)
    look(page, "first-8-dark")


def cell(page: Page) -> Locator:
    """The one with the cursor."""
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-mod-active .cm-content")


def write(page: Page, code: str) -> None:
    cell(page).click()
    page.keyboard.insert_text(code)
