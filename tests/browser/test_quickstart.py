"""The quickstart as a person does it: sign in, choose a profile, open the notebook, Run All."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from running_platform import RunningPlatform

pytestmark = pytest.mark.platform

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
NASTY = "eve<'&\">"
START_MS = 120_000
RUN_MS = 300_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of its own, wide and tall; its last look is kept under `build/screenshots`."""
    page = browser.new_page(viewport={"width": 1400, "height": 2400})
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    yield page
    look(page, request.node.name)
    page.close()


def look(page: Page, name: str) -> None:
    shots = Path(os.environ.get("AIAAS_SCREENSHOTS", "build/screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=shots / f"{re.sub(r'[^a-z0-9-]+', '-', name.lower())}.png")


def test_from_sign_in_to_lineage(page: Page, platform: RunningPlatform) -> None:
    page.goto(platform.url)
    page.get_by_label("Username").fill(NASTY)
    page.get_by_label("Password").fill(str(platform.facts["user_password"]))
    page.keyboard.press("Enter")

    gpu = page.get_by_role("radio", name=re.compile("GPU"))
    expect(gpu.last).to_be_visible(timeout=START_MS)
    small = page.get_by_role("radio", name=re.compile("Small CPU"))
    small.check()
    look(page, "spawn-page")
    page.get_by_role("button", name="Start").click()

    page.locator("#jp-top-panel").wait_for(timeout=START_MS)
    user = quote(NASTY.lower(), safe="")
    page.goto(f"{platform.url}/user/{user}/lab/tree/examples/quickstart.ipynb")
    page.locator(".jp-Notebook .jp-MarkdownCell h1").first.wait_for(timeout=START_MS)
    expect(page.locator(".jp-Notebook-ExecutionIndicator").first).to_have_attribute(
        "data-status", "idle", timeout=START_MS
    )
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    # The plot is there while the run is still going.
    training = page.locator(".jp-CodeCell", has_text="%%aiaas train")
    expect(training.get_by_text("running", exact=True).first).to_be_visible(timeout=RUN_MS)
    expect(training.locator(".jp-OutputArea-output img").first).to_be_visible(timeout=RUN_MS)
    expect(training.get_by_text("running", exact=True).first).to_be_visible()
    look(page, "training-live")
    expect(training.get_by_text("succeeded", exact=True).first).to_be_visible(timeout=RUN_MS)

    last = page.locator(".jp-CodeCell").last
    expect(last.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"), timeout=RUN_MS)
    expect(page.get_by_text(re.compile(r"^9\d\.\d% of 360 held-out"))).to_be_visible()
    expect(page.get_by_text("the code as typed")).to_be_visible()
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0

    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0, timeout=START_MS)
    (saved,) = platform.home.notebooks.glob("*/examples/quickstart.ipynb")
    text = saved.read_text()
    notebook = json.loads(text)
    figures = notebook["cells"][-1]["outputs"][0]["data"]["application/json"]
    assert figures["accuracy"] >= 0.95
    assert figures["parity_max_abs"] <= 1e-4
    # No key of the gateway (a signed token begins like this) was saved with the notebook.
    assert "eyJ" not in text
