"""What people do in a browser: sign in, open a notebook, run it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Error, Locator, Page, expect
from running_platform import RunningPlatform

_BUILT = Path(sys.prefix, "share", "jupyter", "labextensions", "@aiaas-hub")
needs_extension = pytest.mark.skipif(
    # Where all can be had, its absence is a failure.
    not _BUILT.exists() and "CI" not in os.environ,
    reason="the JupyterLab extension is not built: make labextension",
)
NASTY = "eve<'&\">"
"""A user whose name would be a page's code, were it not escaped."""
AXE = Path(__file__).parents[1] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
START_MS = 120_000
RUN_MS = 300_000


def look(page: Page, name: str) -> None:
    """Keep what the page looks like now under `build/screenshots`."""
    shots = Path(os.environ.get("AIAAS_SCREENSHOTS", "build/screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=shots / f"{re.sub(r'[^a-z0-9-]+', '-', name.lower())}.png")


def picture(page: Page, name: str, top: Locator | None = None) -> None:
    """What the README shows, where `AIAAS_PICTURES` says so (`make pictures`): a window of a usual
    size, scrolled to `top`."""
    directory = os.environ.get("AIAAS_PICTURES")
    if directory is None:
        return
    usual = page.viewport_size
    page.set_viewport_size({"width": 1280, "height": 800})
    if top is not None:
        top.evaluate("node => node.scrollIntoView({block: 'start'})")
    # Laid out anew before it is taken.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    path = Path(directory) / f"{name}.png"
    page.screenshot(path=path, animations="disabled", caret="hide")
    if usual is not None:
        page.set_viewport_size(usual)


def sign_in(page: Page, platform: RunningPlatform, user: str) -> None:
    """Leads to the spawn page, or to the user's server where it runs already."""
    page.goto(platform.url)
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(str(platform.facts["user_password"]))
    page.keyboard.press("Enter")


def choose_profile(page: Page) -> None:
    """On the spawn page: the smallest one without a GPU."""
    page.get_by_role("radio", name=re.compile("Small CPU")).check()


def start_button(page: Page) -> Locator:
    """On the spawn page; exact, for Lab's own toolbar has buttons that begin with "Restart"."""
    return page.get_by_role("button", name="Start", exact=True)


def start_server(page: Page) -> None:
    start_button(page).click()
    page.locator("#jp-top-panel").wait_for(timeout=START_MS)


def enter_lab(page: Page, platform: RunningPlatform, user: str) -> None:
    """Sign in, and start the user's server where it does not run already."""
    sign_in(page, platform, user)
    lab = page.locator("#jp-top-panel")
    start = start_button(page)
    expect(lab.or_(start).first).to_be_visible(timeout=START_MS)
    if start.is_visible():
        choose_profile(page)
        start_server(page)


def server_url(platform: RunningPlatform, user: str) -> str:
    return f"{platform.url}/user/{quote(user.lower(), safe='')}"


def open_notebook(page: Page, platform: RunningPlatform, user: str, path: str) -> None:
    """Return when its kernel waits for work."""
    page.goto(f"{server_url(platform, user)}/lab/tree/{path}")
    wait_for_kernel(page)


def wait_for_kernel(page: Page) -> None:
    """Of the notebook that JupyterLab has in front."""
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for(timeout=START_MS)
    # In the status bar: the notebook's own indicator is idle also before there is a kernel.
    idle = page.get_by_text("Python 3 (ipykernel) | Idle", exact=True)
    expect(idle).to_be_visible(timeout=START_MS)


def choose(page: Page, bar: str, *menu: str) -> None:
    """An entry of a menu, from the menu bar on."""
    page.get_by_role("menuitem", name=bar, exact=True).click()
    for name in menu:
        label = re.compile(f"^{re.escape(name)}$")
        page.locator(".lm-Menu-itemLabel", has_text=label).click()


def go_dark(page: Page) -> None:
    """Return when it can be seen: JupyterLab covers the page while a theme comes."""
    choose(page, "Settings", "Theme", "JupyterLab Dark")
    body = page.locator("body")
    expect(body).to_have_attribute("data-jp-theme-light", "false", timeout=START_MS)
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)


def run_all(page: Page) -> None:
    """Press until a cell of the notebook in front has begun: right after a page is opened
    JupyterLab may lose the first time."""
    prompts = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-InputPrompt")
    begun = prompts.filter(has_text=re.compile(r"\[(\*|\d+)\]")).first
    for attempt in range(3):
        choose(page, "Run", "Run All Cells")
        try:
            begun.wait_for(timeout=20_000)
            return
        except Error:
            if attempt == 2:
                raise


def save(page: Page) -> None:
    with page.expect_response(
        lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url,
        timeout=START_MS,
    ) as saved:
        page.keyboard.press("Control+s")
    assert saved.value.ok


def open_panel(page: Page) -> Locator:
    """The side panel, by keyboard. Right after a page is opened JupyterLab may take the focus back
    for its notebook."""
    page.locator("#jp-top-panel").wait_for(timeout=START_MS)
    page.locator(".jp-LauncherCard, .jp-Cell").first.wait_for(timeout=START_MS)
    panel = page.get_by_role("region", name="AIaaS Hub")
    for attempt in range(3):
        page.keyboard.press("Control+Shift+c")
        page.locator(".lm-CommandPalette-input").fill("AIaaS: Open panel")
        page.keyboard.press("Enter")
        try:
            expect(panel.get_by_role("button", name="Refresh")).to_be_focused()
            break
        except AssertionError:
            if attempt == 2:
                raise
    return panel


def row(panel: Locator, section: str, name: str) -> Locator:
    """The row of the side panel that has `name` in it."""
    rows = panel.get_by_role("region", name=section, exact=True).get_by_role("listitem")
    return rows.filter(has_text=name)


def find_wrong(page: Page, selector: str) -> list[str]:
    """What axe finds wrong there, the contrast of the theme's colours included."""
    if not AXE.is_file():
        assert "CI" not in os.environ
        pytest.skip("axe is missing: make labextension")
    page.evaluate(AXE.read_text())
    found = page.locator(selector).first.evaluate(
        """async node => (await axe.run(node)).violations.map(
            one => `${one.id}: ${one.nodes.map(at => at.html).slice(0, 3).join(" ")}`
        )"""
    )
    assert isinstance(found, list)
    return found
