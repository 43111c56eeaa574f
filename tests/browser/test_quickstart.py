"""The quickstart as a person does it: sign in, choose a profile, open the notebook, Run All."""

from __future__ import annotations

import json
import re

import pytest
from lab_pages import (
    NASTY,
    RUN_MS,
    START_MS,
    choose_profile,
    look,
    open_notebook,
    run_all,
    save,
    sign_in,
    start_server,
)
from playwright.sync_api import Page, expect
from running_platform import RunningPlatform

from aiaas_hub.spawner.notebook_home import directory_name

pytestmark = pytest.mark.platform


def test_from_sign_in_to_lineage(page: Page, platform: RunningPlatform) -> None:
    sign_in(page, platform, NASTY)
    gpu = page.get_by_role("radio", name=re.compile("GPU"))
    expect(gpu.last).to_be_visible(timeout=START_MS)
    choose_profile(page)
    look(page, "spawn-page")
    start_server(page)
    open_notebook(page, platform, NASTY, "examples/quickstart.ipynb")
    run_all(page)

    # The plot is there while the run is still going.
    training = page.locator(".jp-CodeCell", has_text="%%aiaas train")
    expect(training.get_by_text("running", exact=True).first).to_be_visible(timeout=RUN_MS)
    expect(training.get_by_role("img", name=re.compile("by step")).first).to_be_visible(
        timeout=RUN_MS
    )
    expect(training.get_by_text("running", exact=True).first).to_be_visible()
    look(page, "training-live")
    expect(training.get_by_text("succeeded", exact=True).first).to_be_visible(timeout=RUN_MS)

    last = page.locator(".jp-CodeCell").last
    expect(last.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"), timeout=RUN_MS)
    expect(page.get_by_text(re.compile(r"^9\d\.\d% of 360 held-out"))).to_be_visible()
    expect(page.get_by_text("the code as typed")).to_be_visible()
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0

    save(page)
    mine = platform.home.notebooks / directory_name(NASTY.lower())
    saved = mine / "examples" / "quickstart.ipynb"
    text = saved.read_text()
    notebook = json.loads(text)
    figures = notebook["cells"][-1]["outputs"][0]["data"]["application/json"]
    assert figures["accuracy"] >= 0.95
    assert figures["parity_max_abs"] <= 1e-4
    # No key of the gateway (a signed token begins like this) was saved with the notebook.
    assert "eyJ" not in text
