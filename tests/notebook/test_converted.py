"""A notebook that nobody opens in JupyterLab: executed, converted, and read as HTML or Markdown,
where there is no kernel and no extension."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pytest
from api_world import World
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter
from notebook_shell import Notebook
from run_reports import JobSide, submit

import aiaas_magics as aiaas

HOSTILE = "<img src=x onerror=alert(1)>"
SECONDS = 120


@pytest.fixture
def executed(world: World, notebook: Notebook) -> nbformat.NotebookNode:
    """With a run, tables, a plot and the three panels in it."""
    aiaas.datasets.put("flowers", pd.DataFrame({"n": range(3)}), description=HOSTILE)
    world.published("doubled")
    run = submit(notebook)
    job = JobSide(world, run)
    job.event("started")
    for loss in (3.0, 2.0, 1.0):
        job.step(loss=loss)
    job.log(f"a log \x1b[31mwith {HOSTILE}\n")
    job.event("succeeded")
    sources = (
        "%load_ext aiaas_magics\nimport aiaas_magics as aiaas",
        f"%aiaas attach {run.id}",
        "%aiaas runs",
        "%aiaas datasets",
        *(f'aiaas.panel("{kind}")' for kind in ("datasets", "runs", "deploy")),
    )
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])
    NotebookClient(made, timeout=SECONDS, kernel_name="python3").execute()
    return made


def test_it_reads_well_as_html_and_as_markdown(executed: nbformat.NotebookNode) -> None:
    html, _ = HTMLExporter().from_notebook_node(executed)
    read = Reader()
    read.feed(html)
    markdown, _ = MarkdownExporter().from_notebook_node(executed)
    for text in (read.text, re.sub(r"<[^>]*>", "", markdown)):
        assert "cnn" in text
        assert "succeeded" in text
        assert "flowers" in text
        # What stands for a widget where there is none, and names of parts of one.
        for garbage in ("VBox(", "HBox(", "model_id", "widget-view", "IPY_MODEL", "Loading widget"):
            assert garbage not in text, garbage
        assert "\x1b" not in text
    # The panels are in Markdown what they showed; in HTML widgets whose state is in the page, and
    # which nbconvert lets a network draw, with a line for whoever has none.
    assert "doubled" in markdown
    assert "No endpoints yet" not in markdown
    assert read.text.count("After a restart of the kernel run this cell again.") == 3
    assert "application/vnd.jupyter.widget-state+json" in html
    assert f"a log with {HOSTILE}" in read.text
    (plot,) = [attributes for tag, attributes in read.tags if tag == "img"]
    assert plot["alt"] == "loss by step"
    assert (plot["src"] or "").startswith("data:image/svg+xml;base64,")
    assert 'alt="loss by step"' in markdown


class Reader(HTMLParser):
    """What a browser would show of a page, without its styles and programs."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._shown: list[str] = []
        self._hidden = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "script"):
            self._hidden = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._shown.append(data)

    @property
    def text(self) -> str:
        return "".join(self._shown)
