"""The panels of a notebook's cells, as a page shows them."""

from __future__ import annotations

from lab_pages import find_wrong
from playwright.sync_api import Locator, Page

KINDS = ("datasets", "deploy", "runs")


def panel_of(kind: str) -> str:
    return f""".jp-CodeCell:has-text('aiaas.panel("{kind}")') :is(.aiaas-panel, .aiaas-data)"""


def panel(page: Page, kind: str) -> Locator:
    return page.locator(panel_of(kind))


def in_sight(page: Page, kind: str) -> Locator:
    """What is scrolled away JupyterLab may not lay out."""
    wanted = panel(page, kind)
    wanted.scroll_into_view_if_needed()
    return wanted


def wrong_in(page: Page, kind: str) -> list[str]:
    """What axe finds wrong in it."""
    in_sight(page, kind)
    return find_wrong(page, panel_of(kind))
