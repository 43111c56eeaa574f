"""A browser, and a page in it for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from lab_pages import START_MS, look
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


# One for each module: while it is there, an event loop runs in the tests' thread, and the tests of
# other directories start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Most of what is expected comes by way of a kernel, or once in ten seconds."""
    expect.set_options(timeout=START_MS)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of its own, wide and tall; its last look is kept under `build/screenshots`."""
    context = browser.new_context(viewport={"width": 1400, "height": 2400})
    page = context.new_page()
    page.on("dialog", _leave)
    yield page
    look(page, request.node.name)
    context.close()


def _leave(dialog: Dialog) -> None:
    """JupyterLab asks before something unsaved is left; no script of anybody else's may ask."""
    if dialog.type != "beforeunload":
        pytest.fail(f"a script ran: {dialog.message}")
    dialog.accept()
