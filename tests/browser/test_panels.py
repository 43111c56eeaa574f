"""The panels in a real JupyterLab, through the hub, to Triton: by clicking and by keyboard."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab_pages import (
    RUN_MS,
    START_MS,
    enter_lab,
    find_wrong,
    go_dark,
    look,
    open_notebook,
    open_panel,
    picture,
    row,
    run_all,
)
from panels_in_cells import KINDS, panel, wrong_in
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, expect
from running_platform import RunningPlatform

from aiaas_hub.spawner.notebook_home import directory_name

pytestmark = pytest.mark.platform

HOSTILE = "<img src=x onerror=alert(1)>"
USER = "ivy<'&\">"
"""A user whose name would be a page's code, and who has no server yet."""
NOTEBOOK = "panels-by-hand.ipynb"
CELLS = (
    "%load_ext aiaas_magics\nimport aiaas_magics as aiaas\nimport numpy as np\nimport pandas as pd",
    f"""\
frame = pd.DataFrame({{"price": range(45), "{HOSTILE}": ["{HOSTILE}"] * 45}})
aiaas.datasets.put("hostile", frame, description="A <b>table</b> {HOSTILE}")
aiaas.panel("datasets")""",
    """\
import torch

shades = torch.nn.Linear(64, 2)
shades.weight.data = torch.stack([-torch.ones(64), torch.ones(64)])
shades.bias.data = torch.tensor([32.0, -32.0])
aiaas.publish(
    torch.nn.Sequential(torch.nn.Flatten(), shades).eval(),
    torch.rand(4, 1, 8, 8),
    name="shades",
    labels=["dark", "bright"],
)""",
    """\
from PIL import Image

photos = [Image.new("RGB", (20, 10), shade) for shade in ("white", "black")]
whole = {"size": [8, 8], "mode": "L"}
aiaas.publish(
    torch.nn.Sequential(torch.nn.Flatten(), shades).eval(),
    photos,
    name="photos",
    labels=["dark", "bright"],
    processor=whole,
)""",
    f"""\
from sklearn.linear_model import LogisticRegression

X = np.eye(3, dtype="float32").repeat(5, axis=0)
model = LogisticRegression().fit(X, [0] * 5 + [1] * 5 + [2] * 5)
aiaas.publish(
    model, X[:2], name="by-hand", eval_input=X, labels=["cat", "{HOSTILE}", "eel"]
)""",
    f"""\
%%aiaas train --name watched --detach
def train(ctx):
    print("a log with {HOSTILE}")
    for step in range(1, 6):
        ctx.report(step=step, loss=1 / step)""",
    'aiaas.panel("deploy")',
    'aiaas.panel("runs")',
)


@pytest.fixture
def notebook(page: Page, platform: RunningPlatform) -> Iterator[None]:
    """It is open, and its cells have run."""
    enter_lab(page, platform, USER)
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    file: Path = platform.home.notebooks / directory_name(USER.lower()) / NOTEBOOK
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), file)
    open_notebook(page, platform, USER, NOTEBOOK)
    run_all(page)
    # What is clicked is answered between cells.
    last = page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
    expect(last).to_have_text(re.compile(r"\[\d+\]:"), timeout=RUN_MS)
    yield
    file.unlink()


@pytest.mark.usefixtures("notebook")
def test_panels_by_hand(page: Page) -> None:
    browse(page, page.get_by_role("group", name="Dataset browser"))
    deploy(page, panel(page, "deploy"))
    watch(panel(page, "runs"))
    ask_by_picture(panel(page, "deploy"))
    ask_by_picture_beside(page)
    look(page, "panels-light")
    wrong = {f"{kind}, light": wrong_in(page, kind) for kind in KINDS}
    go_dark(page)
    look(page, "panels-dark")
    wrong |= {f"{kind}, dark": wrong_in(page, kind) for kind in KINDS}
    # At last, so that one run shows all of it.
    assert {where: found for where, found in wrong.items() if found} == {}


def browse(page: Page, browser: Locator) -> None:
    mine = browser.get_by_role("button", name=re.compile(r"hostile"))
    expect(mine).to_be_visible(timeout=RUN_MS)
    browser.get_by_role("searchbox", name="Search datasets").fill("nothing-like-it")
    expect(browser.get_by_role("status")).to_contain_text("nothing-like-it")
    browser.get_by_role("searchbox", name="Search datasets").fill("")
    mine.focus()
    page.keyboard.press("Enter")
    rows = browser.get_by_role("region", name="Rows").locator("tbody tr")
    expect(rows).to_have_count(20)
    # All that is hostile is text, and there is no image.
    expect(browser.get_by_role("columnheader", name=HOSTILE)).to_be_visible()
    expect(rows.first).to_contain_text(HOSTILE)
    expect(browser).to_contain_text("A <b>table</b>")
    assert browser.locator("img").count() == 0

    browser.get_by_role("button", name="Next").click()
    expect(rows.first).to_contain_text("21")
    browser.get_by_role("textbox", name=re.compile("Condition")).fill("price >= 40")
    browser.get_by_role("button", name="Filter").click()
    # The first condition starts the process that reads it.
    expect(rows).to_have_count(5)
    browser.get_by_role("button", name="price", exact=True).click()
    browser.get_by_role("button", name="price ▲").click()
    expect(rows.first).to_contain_text("44")
    expect(browser.get_by_role("columnheader", name="price")).to_have_attribute(
        "aria-sort", "descending"
    )
    browser.get_by_text("Columns to show").click()
    browser.get_by_role("checkbox", name=re.compile("^<img")).uncheck()
    line = "%aiaas load hostile@1 --into df --columns price --where 'price >= 40'"
    expect(browser.get_by_text(line)).to_be_visible()
    browser.get_by_role("textbox", name=re.compile("Condition")).fill("price >")
    page.keyboard.press("Enter")
    expect(browser.get_by_role("alert").filter(visible=True)).to_be_visible()


def ask(form: Locator) -> None:
    # By keyboard: what is shown above it may still move the button from under a mouse.
    form.get_by_role("button", name="Ask", exact=True).press("Enter")


def deploy(page: Page, form: Locator) -> None:
    expect(form).to_contain_text("version 1: 100 %", timeout=RUN_MS)
    endpoint = form.get_by_label("endpoint", exact=True).first
    expect(endpoint).to_have_value("by-hand")
    form.locator(".widget-slider", has_text="canary %").get_by_role("slider").focus()
    for _ in range(4):
        page.keyboard.press("PageUp")
    expect(form).to_contain_text("20 % for version 2")
    form.get_by_role("button", name="Publish", exact=True).click()
    expect(form).to_contain_text("version 1: 80 %, version 2: 20 %", timeout=RUN_MS)
    picture(page, "deploy", form.get_by_text("Plan", exact=True))

    form.get_by_label("rows").fill("0 9 0")
    ask(form)
    answer = form.get_by_role("row", name=re.compile("^1 <img"))
    expect(answer).to_be_visible(timeout=RUN_MS)
    form.get_by_label("rows").fill("0 9")
    ask(form)
    expect(form.get_by_text("has 3 numbers")).to_be_visible()

    form.get_by_role("button", name="Roll back", exact=True).click()
    expect(form.get_by_text("Roll by-hand back from version 1: 80 %")).to_be_visible()
    form.get_by_role("button", name="No", exact=True).click()
    expect(form.get_by_text("Roll by-hand back from")).to_be_hidden()
    form.get_by_role("button", name="Roll back", exact=True).click()
    form.get_by_role("button", name="Yes, do it").click()
    expect(form.get_by_text("rolled back: version 2").first).to_be_visible(timeout=START_MS)
    expect(form.get_by_text("in the deploy panel").first).to_be_visible()


def picture_file() -> FilePayload:
    white = io.BytesIO()
    Image.new("RGB", (300, 200), "white").save(white, "PNG")
    return {"name": "white.png", "mimeType": "image/png", "buffer": white.getvalue()}


def ask_by_picture(form: Locator) -> None:
    """An endpoint that takes 8 by 8 pixels is asked by a file of any size."""
    endpoints = form.get_by_label("endpoint", exact=True).last
    line = endpoints.get_by_role("option", name=re.compile("^shades")).inner_text()
    endpoints.select_option(label=line)
    expect(form.get_by_text("resized to 8 by 8 pixels")).to_be_visible(timeout=START_MS)
    # The widget's input of files is no part of the page.
    with form.page.expect_file_chooser() as chosen:
        form.get_by_role("button", name=re.compile("Choose a picture")).click()
    chosen.value.set_files(picture_file())
    expect(form.get_by_text("white.png")).to_be_visible()
    ask(form)
    expect(form.get_by_role("row", name=re.compile("^1 bright"))).to_be_visible(timeout=RUN_MS)
    expect(form.get_by_role("img", name="What was sent")).to_be_visible()
    form.get_by_role("checkbox", name="dark becomes bright").check()
    ask(form)
    expect(form.get_by_role("row", name=re.compile("^1 dark"))).to_be_visible(timeout=RUN_MS)


def ask_by_picture_beside(page: Page) -> None:
    """The same in the side panel's views: of the endpoint that takes numbers, and of one that takes
    files, where there is nothing to type or to choose."""
    side = open_panel(page)
    for name, sides, choices in (("shades", (8, 8), 1), ("photos", (224, 149), 0)):
        found = row(side, "Endpoints", name).get_by_role("button").first
        expect(found).to_be_visible()
        found.press("Enter")
        view = page.get_by_role("region", name=re.compile(f"^Endpoint {name}"))
        view.get_by_label("Picture", exact=True).set_input_files(picture_file())
        expect(view.get_by_role("radiogroup", name="What to send")).to_have_count(choices)
        expect(view.get_by_label("Its numbers")).to_have_count(choices)
        view.get_by_role("button", name="Ask it", exact=True).click()
        answer = view.get_by_role("region", name="Answer", exact=True)
        expect(answer.get_by_role("cell", name="bright")).to_be_visible(timeout=START_MS)
        seen = view.get_by_role("img", name="The picture as it was sent")
        expect(seen).to_have_js_property("naturalWidth", sides[0])
        expect(seen).to_have_js_property("naturalHeight", sides[1])
        look(page, f"endpoint-by-picture-{name}")
        assert find_wrong(page, ".jp-aiaas-view:visible") == []
        tab = page.locator(f".lm-TabBar-tab[title^='Endpoint {name}']")
        tab.locator(".lm-TabBar-tabCloseIcon").click()


def watch(monitor: Locator) -> None:
    """A run as it is, and as it was when it is over."""
    # What nobody sees asks for nothing.
    monitor.scroll_into_view_if_needed()
    listed = monitor.get_by_role("listbox")
    mine = listed.get_by_role("option", name=re.compile("watched"))
    expect(mine).to_have_count(1, timeout=RUN_MS)
    listed.select_option(index=0)
    expect(mine).to_contain_text("succeeded", timeout=RUN_MS)
    expect(monitor).to_contain_text(f"a log with {HOSTILE}")
    expect(monitor.get_by_role("img", name=re.compile("loss"))).to_be_visible()
    expect(monitor.get_by_role("button", name="Cancel the run")).to_be_hidden()
