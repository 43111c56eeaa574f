"""The side panel as a new user meets it: empty, then with data, a run, a model, an endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab_pages import (
    RUN_MS,
    START_MS,
    choose_profile,
    find_wrong,
    go_dark,
    look,
    needs_extension,
    open_notebook,
    open_panel,
    row,
    run_all,
    sign_in,
    start_server,
)
from playwright.sync_api import Locator, Page, expect
from running_platform import RunningPlatform
from tenacity import Retrying, stop_after_delay, wait_fixed

from aiaas_hub.spawner.notebook_home import directory_name

pytestmark = [pytest.mark.platform, needs_extension]

USER = "pat<'&\">"
"""Somebody of whom the platform has nothing yet."""
HOSTILE = "<img src=x onerror=alert(1)>"
NOTEBOOK = "panel.ipynb"
VIEW = ".jp-aiaas-view:visible"
STATUS = ".jp-aiaas-status"
DATA = f"""\
%load_ext aiaas_magics
import aiaas_magics as aiaas
import pandas as pd
rows = pd.DataFrame({{"n": range(120), "{HOSTILE}": ["{HOSTILE}"] * 120}})
stored = aiaas.datasets.put("flowers", rows, description="**by hand** {HOSTILE}")
"""
# It ends when it is told to.
TRAINING = f"""\
%%aiaas train --name seen-live --dataset flowers --param go={{go}} --detach
import time
from pathlib import Path

def train(ctx):
    print("a log with {HOSTILE}", flush=True)
    for step in range(1, 61):
        ctx.report(step=step, loss=2.5 * 0.93**step, accuracy=1 - 0.9 * 0.95**step)
    while not Path(ctx.params["go"]).exists():
        time.sleep(0.1)
"""
FAILING = """\
%%aiaas train --name fails-once --detach
def train(ctx):
    if ctx.restore() is None:
        ctx.checkpoint(step=1)
        raise RuntimeError("as it was told to")
"""
PUBLISHING = """\
import torch
for canary in (None, 10):
    aiaas.publish(
        torch.nn.Linear(2, 1).eval(), torch.zeros(4, 2), name="panel-endpoint", canary=canary
    )
"""
DONE = "assert not print('all is done')"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The run ends once this file exists."""
    return tmp_path / "go"


@pytest.fixture
def notebook(page: Page, platform: RunningPlatform, go: Path) -> Iterator[str]:
    """A new notebook of a user who is signed in, and whose server runs."""
    sign_in(page, platform, USER)
    choose_profile(page)
    start_server(page)
    sources = (DATA, TRAINING.format(go=go), FAILING, PUBLISHING, DONE, "")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    file = platform.home.notebooks / directory_name(USER.lower()) / NOTEBOOK
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), file)
    yield NOTEBOOK
    # Nobody waits for it any more.
    go.touch()


def test_a_new_user_finds_what_there_is(
    page: Page, platform: RunningPlatform, notebook: str, go: Path
) -> None:
    open_notebook(page, platform, USER, notebook)
    panel = open_panel(page)
    for code in ("%%aiaas train --name my-first", "aiaas.datasets.put", "%aiaas publish"):
        expect(panel.get_by_text(code)).to_be_visible(timeout=START_MS)
    look(page, "panel-empty-light")

    run_all(page)
    run = row(panel, "Runs", "seen-live")
    expect(run.get_by_text("running", exact=True)).to_be_visible(timeout=RUN_MS)
    expect(page.get_by_role("button", name=re.compile(r"^AIaaS: 1 run\b"))).to_be_visible()
    expect(page.get_by_text("all is done", exact=True)).to_be_visible(timeout=RUN_MS)
    panel.get_by_role("button", name="Refresh").click()
    # Fewer words, fewer rows.
    search = panel.get_by_role("searchbox", name="Search Datasets")
    search.fill("no-such-data")
    expect(panel.get_by_text("Nothing is called that.")).to_be_visible()
    search.fill("column:n")
    flowers = row(panel, "Datasets", "flowers")
    expect(flowers).to_be_visible()
    search.fill("")
    expect(row(panel, "Models", "panel-endpoint")).to_be_visible()
    expect(row(panel, "Endpoints", "panel-endpoint").get_by_text("canary")).to_be_visible()

    # Code of a row goes where the cursor is, by button and by hand.
    cells = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")
    # Outputs that still grow would move the last cell away from under the mouse.
    for cell, words in ((1, ("step 60", "a log with")), (2, ("TrainingFailed: ",))):
        for told in words:
            expect(cells.nth(cell).locator(".jp-OutputArea")).to_contain_text(told, timeout=RUN_MS)
    last = cells.last.locator(".cm-content")
    last.click()
    flowers.hover()
    flowers.get_by_role("button", name="Insert code for flowers").click()
    expect(last).to_have_text("%aiaas load flowers --into flowers")
    for dragged, line in ((flowers, "^%aiaas load flowers "), (run, "^%aiaas attach [a-z0-9-]+$")):
        last.press("Control+a")
        last.press("Delete")
        dragged.drag_to(last)
        expect(last).to_have_text(re.compile(line))
    # The cell that began it says how it is, and leads there.
    badge = cells.nth(1).get_by_role("button", name="Open run seen-live (running)")
    expect(badge).to_have_text("running")
    look(page, "panel-light")
    assert find_wrong(page, "#aiaas-panel") == []
    wrong = {"status, light": find_wrong(page, STATUS)}

    # What anybody wrote is text, wherever it is shown, or harmless; a dialog would fail the test.
    dataset = open_view(page, flowers, "Dataset flowers")
    description = dataset.locator(".jp-aiaas-description")
    expect(description.locator("strong")).to_have_text("by hand")
    expect(description.locator("[onerror]")).to_have_count(0)
    expect(dataset.get_by_role("cell", name=HOSTILE).first).to_be_visible()
    expect(dataset.get_by_text("1 to 50 of 120")).to_be_visible()
    dataset.get_by_role("button", name="After").click()
    expect(dataset.get_by_text("51 to 100 of 120")).to_be_visible()
    look(page, "panel-dataset-light")
    assert find_wrong(page, VIEW) == []

    view = open_view(page, run, "View of run")
    expect(view.get_by_role("region", name="Log")).to_contain_text(f"a log with {HOSTILE}")
    expect(view.get_by_role("img", name=re.compile("^loss by step"))).to_be_visible()
    code = view.get_by_role("region", name="Code")
    expect(code).to_contain_text("%%aiaas train --name seen-live --dataset flowers")
    expect(code.locator("span", has_text="def").first).to_be_visible()
    go.touch()
    expect(page.get_by_text("Run seen-live succeeded.").first).to_be_visible(timeout=RUN_MS)
    expect(run.get_by_text("succeeded", exact=True)).to_be_visible()
    done = page.locator(".jp-aiaas-badge", has_text="succeeded").first
    # In a tab behind this one, where it has no role.
    expect(done).to_have_attribute("aria-label", "Open run seen-live (succeeded)")
    expect(page.get_by_role("button", name=re.compile(r"^AIaaS: 0 runs"))).to_be_visible(
        timeout=START_MS
    )
    look(page, "panel-run-light")
    wrong["run, light"] = find_wrong(page, VIEW)

    expect(view.get_by_role("list", name="Lineage").get_by_role("button")).to_have_text(
        [re.compile("^seen-live · "), re.compile("^flowers@1$")]
    )
    expect(view.get_by_role("button", name="Resume")).to_have_count(0)
    go_on(page, row(panel, "Runs", "fails-once"))
    # It was clicked twice, and is one.
    expect(row(panel, "Runs", "fails-once")).to_have_count(2)

    model = open_view(page, row(panel, "Models", "panel-endpoint"), "Model panel-endpoint")
    expect(model.get_by_role("cell", name="float32").first).to_be_visible()
    wrong["model, light"] = find_wrong(page, VIEW)

    # By keyboard, and with a second thought.
    endpoint = open_view(page, row(panel, "Endpoints", "panel-endpoint"), "Endpoint panel-endpoint")
    expect(endpoint.get_by_text(re.compile("^differs by"))).to_have_count(2)
    share_out(endpoint)
    try_rows(endpoint)
    make_a_key(page, endpoint)
    lineage = endpoint.get_by_role("list", name="Lineage")
    expect(lineage.get_by_role("button", name="panel-endpoint, version 2")).to_be_visible()
    expect(lineage.get_by_role("button", name="panel-endpoint@2", exact=True)).to_be_visible()
    look(page, "panel-endpoint-light")
    assert find_wrong(page, VIEW) == []
    go_dark(page)
    look(page, "panel-endpoint-dark")
    assert find_wrong(page, "#aiaas-panel") == []
    wrong["status, dark"] = find_wrong(page, STATUS)
    seen = (("Datasets", "flowers"), ("Runs", "seen-live"))
    for section, name in (*seen, ("Models", "panel-endpoint"), ("Endpoints", "panel-endpoint")):
        title = "View of run" if section == "Runs" else f"{section[:-1]} {name}"
        open_view(page, row(panel, section, name), title)
        wrong[f"{section}, dark"] = find_wrong(page, VIEW)
    # At last, so that one run shows all of it.
    assert {where: found for where, found in wrong.items() if found} == {}

    promote_and_roll_back(page, endpoint)
    state = endpoint.get_by_role("status").first.inner_text()
    retire = endpoint.get_by_role("button", name="Retire", exact=True)
    retire.press("Enter")
    page.locator(".jp-Dialog").get_by_role("button", name="Leave it").press("Enter")
    expect(endpoint.get_by_role("status").first).to_have_text(state)
    retire.press("Enter")
    page.locator(".jp-Dialog").get_by_role("button", name="Retire it").press("Enter")
    expect(endpoint.get_by_role("status").first).to_have_text("retired", timeout=START_MS)

    # What was open is there again.
    page.reload()
    page.locator("#jp-top-panel").wait_for(timeout=START_MS)
    page.locator(".lm-TabBar-tab[title^='Endpoint panel-endpoint']").click(timeout=START_MS)
    again = page.get_by_role("region", name="Endpoint panel-endpoint")
    expect(again.get_by_role("status").first).to_have_text("retired", timeout=START_MS)
    expect(page.locator("img[src='x']")).to_have_count(0)


def go_on(page: Page, failed: Locator) -> None:
    """A click on a run that failed makes one that begins where it stopped."""
    view = open_view(page, failed, "View of run")
    expect(view.get_by_role("status").first).to_have_text("failed", timeout=RUN_MS)
    title = view.get_by_role("heading").first.inner_text()
    view.get_by_role("button", name="Resume").dblclick()
    next_one = page.get_by_role("region", name=re.compile("^View of run")).filter(visible=True)
    expect(next_one.get_by_role("heading").first).not_to_have_text(title, timeout=START_MS)
    expect(next_one.get_by_role("status").first).to_have_text("succeeded", timeout=RUN_MS)


def share_out(endpoint: Locator) -> None:
    """By the slider, from a tenth for the canary to a fifth."""
    expect(endpoint.get_by_role("status").first).to_have_text("canary")
    slider = endpoint.get_by_role("slider", name="Share of v2")
    expect(slider).to_have_value("10")
    change = endpoint.get_by_role("button", name="Set the traffic")
    expect(change).to_be_disabled()
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
    expect(endpoint.get_by_text("v1 80 %, v2 20 %", exact=True)).to_be_visible()
    change.press("Enter")
    expect(endpoint.get_by_text("v1 80 % · v2 20 %", exact=True)).to_be_visible(timeout=START_MS)
    expect(change).to_be_disabled()


def promote_and_roll_back(page: Page, endpoint: Locator) -> None:
    """Each is said twice; a rollback leads to the version that was promoted over."""
    fact = endpoint.locator("dl > div", has=page.get_by_text("Traffic", exact=True))
    traffic = fact.locator("dd")
    promote = endpoint.get_by_role("button", name="Promote", exact=True)
    promote.click()
    page.locator(".jp-Dialog").get_by_role("button", name="Promote it").click()
    expect(traffic).to_have_text("v2 100 %", timeout=START_MS)
    expect(promote).to_have_count(0)
    endpoint.get_by_role("button", name="Roll back", exact=True).click()
    page.locator(".jp-Dialog").get_by_role("button", name="Roll it back").click()
    expect(traffic).to_have_text("v1 100 %", timeout=START_MS)


def try_rows(endpoint: Locator) -> None:
    rows = endpoint.get_by_role("textbox", name="Rows")
    expect(rows).to_have_value("0 0", timeout=START_MS)
    ask = endpoint.get_by_role("button", name="Ask it", exact=True)
    rows.fill("1 2 3")
    ask.click()
    expect(endpoint.get_by_role("alert")).to_contain_text("A row has 2 numbers", timeout=START_MS)
    rows.fill("1 2\n3 4")
    endpoint.get_by_role("combobox", name="Ask", exact=True).select_option("version 1")
    ask.click()
    answer = endpoint.get_by_role("region", name="Answer", exact=True)
    expect(answer.locator("tbody tr")).to_have_count(2, timeout=START_MS)
    expect(endpoint.get_by_text("answered by version 1", exact=True)).to_be_visible()
    program = endpoint.get_by_role("region", name="Program", exact=True)
    expect(program).to_contain_text("/v2/models/panel-endpoint/infer")


def make_a_key(page: Page, endpoint: Locator) -> None:
    """It opens the endpoint to somebody outside until it is revoked."""
    endpoint.get_by_role("textbox", name="For whom").fill(HOSTILE)
    endpoint.get_by_role("button", name="Make a key").click()
    made = endpoint.locator(".jp-aiaas-made")
    expect(made).to_be_visible(timeout=START_MS)
    token = made.locator("code").inner_text()
    address = endpoint.locator("dd").filter(has_text="http").inner_text()

    def status() -> int:
        answer = page.request.get(
            f"{address}/v2/models/panel-endpoint/ready",
            headers={"Authorization": f"Bearer {token}"},
        )
        return answer.status

    assert status() == 200
    made.get_by_role("button", name="I have it").click()
    expect(made).to_be_hidden()
    keys = endpoint.get_by_role("region", name="Keys", exact=True)
    expect(keys.get_by_role("cell", name=HOSTILE, exact=True)).to_be_visible()
    expect(keys).not_to_contain_text(token)
    keys.get_by_role("button", name=re.compile("^Revoke key ")).click()
    page.locator(".jp-Dialog").get_by_role("button", name="Revoke it").click()
    expect(keys.get_by_text("revoked", exact=True)).to_be_visible(timeout=START_MS)
    for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.1)):
        with attempt:
            assert status() == 403


def open_view(page: Page, row: Locator, name: str) -> Locator:
    row.get_by_role("button").first.press("Enter")
    view = page.get_by_role("region", name=re.compile(f"^{name}"))
    expect(view).to_be_visible(timeout=START_MS)
    return view
