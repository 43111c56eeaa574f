"""The dataset browser on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
from traitlets import Bool, Dict, Unicode, dlink

from aiaas_magics.panels.dataset_browser import DatasetBrowser

_HERE = Path(__file__).parent
_SHOWN = ("listing", "chosen", "table", "error", "busy")


class DatasetBrowserWidget(anywidget.AnyWidget):
    """What the browser knows, sent to the page; what is done there, said to the browser."""

    _esm = (_HERE / "dataset_browser.js").read_text(encoding="utf-8")
    _css = (_HERE / "dataset_browser.css").read_text(encoding="utf-8")

    listing = Dict().tag(sync=True)
    chosen = Dict().tag(sync=True)
    table = Dict().tag(sync=True)
    error = Unicode().tag(sync=True)
    busy = Bool().tag(sync=True)

    def __init__(self, browser: DatasetBrowser) -> None:
        super().__init__()
        for name in _SHOWN:
            dlink((browser, name), (self, name))
        self.on_msg(lambda _, content, __: browser.take(content))


def dataset_browser(browser: DatasetBrowser) -> Any:
    """In a box, for Jupyter marks only its own kinds of widgets as having lost their kernel."""
    box = widgets.VBox([DatasetBrowserWidget(browser)])
    box.add_class("aiaas-browser")
    return box
