"""A run's output stays live when the kernel is restarted, and comes back: the notebook is closed,
its kernel ended, and opened again."""

from __future__ import annotations

import json
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
    go_dark,
    look,
    needs_extension,
    open_notebook,
    run_all,
    save,
    wait_for_kernel,
)
from playwright.sync_api import Locator, Page, expect
from running_platform import RunningPlatform

from aiaas_hub.spawner.notebook_home import directory_name
from aiaas_magics.run import MIME_TYPE

pytestmark = [pytest.mark.platform, needs_extension]

HOSTILE = "<img src=x onerror=alert(1)>"
# It goes a little further when it is told to, after a restart of the kernel, and ends when it is
# told to, after the notebook has been opened again.
TRAINING = f"""\
%%aiaas train --name comes-back --param steps=60 --param go={{go}}
import time
from pathlib import Path

def train(ctx):
    for step in range(ctx.params["steps"]):
        ctx.report(step=step, loss=1 / (step + 1), val_loss=2 / (step + 1))
        print("step", step, "{HOSTILE}", flush=True)
        wanted = Path(ctx.params["go"] + (".further" if step < 45 else ""))
        while step > 30 and not wanted.exists():
            time.sleep(0.1)
"""
ENDLESS = """\
%%aiaas train --name endless --detach
import time

def train(ctx):
    time.sleep(3600)
"""
NOTEBOOK = "comes-back.ipynb"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The run ends once this file exists."""
    return tmp_path / "go"


@pytest.fixture
def saved(page: Page, platform: RunningPlatform, go: Path) -> Iterator[Path]:
    """The file of a new notebook of a user who is signed in, and whose server runs."""
    enter_lab(page, platform, NASTY)
    sources = ("%load_ext aiaas_magics", ENDLESS, TRAINING.format(go=go))
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    file = platform.home.notebooks / directory_name(NASTY.lower()) / NOTEBOOK
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), file)
    yield file
    file.unlink()


def test_a_run_comes_back_live(
    page: Page, platform: RunningPlatform, saved: Path, go: Path
) -> None:
    open_notebook(page, platform, NASTY, NOTEBOOK)
    run_all(page)
    run = run_of(page, "comes-back")
    expect(state_of(run)).to_have_text("running", timeout=RUN_MS)
    expect(run.get_by_role("img", name=re.compile("^loss by step"))).to_be_visible(timeout=RUN_MS)
    save(page)
    _, endless, training = json.loads(saved.read_text())["cells"]
    ids = [cell["metadata"]["aiaas"]["run"] for cell in (endless, training)]
    assert training["outputs"][0]["data"][MIME_TYPE] == {"run": ids[1], "version": 1}

    # The kernel that followed the run is another one now; the page goes on by itself.
    badge = page.get_by_role("button", name=re.compile("^Open run comes-back "))
    choose(page, "Kernel", "Restart Kernel…")
    page.get_by_role("button", name="Confirm Kernel Restart", exact=True).click()
    wait_for_kernel(page)
    expect(state_of(run)).to_have_text("running")
    expect(badge).to_have_text("running")
    go.with_name("go.further").touch()
    further = run.get_by_role("img", name=re.compile("^loss by step, to step 45: "))
    expect(further).to_be_visible(timeout=RUN_MS)
    expect(run.get_by_role("region", name="Log")).to_contain_text(f"step 45 {HOSTILE}")
    save(page)

    # The kernel ends, and with it whoever followed the run; the notebook is closed. Of one of the
    # cells not even the output is left.
    choose(page, "Kernel", "Shut Down All Kernels…")
    page.get_by_role("button", name="Shut Down All").click()
    # In a narrow window the toolbar hides its words, and keeps its buttons.
    expect(page.get_by_role("button", name="No Kernel").first).to_be_visible(timeout=START_MS)
    page.goto("about:blank")
    without_outputs(saved, of=training)
    untouched = saved.read_bytes()

    open_notebook(page, platform, NASTY, NOTEBOOK)
    expect(run).to_have_attribute("aria-label", f"Run comes-back · {ids[1]}", timeout=START_MS)
    expect(state_of(run)).to_have_text("running")
    expect(badge).to_have_text("running")
    go.touch()
    expect(state_of(run)).to_have_text("succeeded", timeout=RUN_MS)
    expect(badge).to_have_text("succeeded")
    plot = run.get_by_role("img", name=re.compile("^loss by step, to step 59: "))
    expect(plot).to_be_visible()
    # All of the log's end, as text.
    expect(run.get_by_role("region", name="Log")).to_contain_text(f"step 59 {HOSTILE}")
    # Looking at it changed nothing.
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    assert saved.read_bytes() == untouched

    # The other one is still going, and is ended by keyboard.
    other = run_of(page, "endless")
    expect(state_of(other)).to_have_text("running", timeout=RUN_MS)
    look(page, "run-comes-back-light")
    wrong = {"light": find_wrong(page, ".jp-aiaas-output")}
    other.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text(ids[0])
    dialog.get_by_role("button", name="Cancel the run").focus()
    page.keyboard.press("Enter")
    expect(state_of(other)).to_have_text("cancelled", timeout=RUN_MS)

    go_dark(page)
    look(page, "run-comes-back-dark")
    wrong["dark"] = find_wrong(page, ".jp-aiaas-output")
    assert wrong == {"light": [], "dark": []}


def run_of(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=re.compile(f"^Run {name} "))


def state_of(run: Locator) -> Locator:
    return run.get_by_role("status").first


def without_outputs(notebook: Path, *, of: dict[str, object]) -> None:
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        if cell["id"] == of["id"]:
            cell["outputs"] = []
    notebook.write_text(json.dumps(content))
