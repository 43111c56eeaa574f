"""The side panel in a plain JupyterLab: with no platform, and before one with very long lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import nbformat
import pytest
from lab_alone import MANY, lab, long_lists
from lab_pages import START_MS, find_wrong, go_dark, look, needs_extension, open_panel, row
from language_pack import make_language_pack
from panel_motion import OPEN, TAB, TURN, WHEEL
from playwright.sync_api import Page, expect

pytestmark = needs_extension


@pytest.fixture
def long_service() -> Iterator[tuple[str, list[str]]]:
    with long_lists() as service:
        yield service


class Work:
    """Milliseconds that the page's main thread worked.

    How long a person waited would also be how busy the machine was with other tests: that is
    measured, with nothing beside it, by `tests/benchmarks/side_panel.py`. What the thread itself
    did is the page's own doing, and comes out much the same on a machine that does other things.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._browser = page.context.new_cdp_session(page)
        self._browser.send("Performance.enable", {"timeDomain": "threadTicks"})

    def of_opening(self, address: str) -> float:
        """Of the panel, in a page that has just been loaded and does nothing any more."""
        self._page.goto(f"{address}&reset")
        self._page.locator(TAB).wait_for(timeout=START_MS)
        self._page.locator(".jp-LauncherCard").first.wait_for(timeout=START_MS)
        self._page.wait_for_timeout(3000)
        before = self._so_far()
        self._page.evaluate(OPEN)
        return self._so_far() - before

    def of_frames(self, title: str) -> float:
        """The 95th percentile of frames in which a list is scrolled, from its begin on."""
        box = self._page.get_by_role("region", name=title, exact=True).locator(".jp-aiaas-rows")
        box.evaluate("box => { box.scrollTop = 0; }")
        turned = box.element_handle()
        frames = []
        for _ in range(100):
            before = self._so_far()
            turned.evaluate(TURN, WHEEL)
            frames.append(self._so_far() - before)
        return sorted(frames)[int(0.95 * len(frames))]

    def _so_far(self) -> float:
        found = self._browser.send("Performance.getMetrics")["metrics"]
        (seconds,) = [one["value"] for one in found if one["name"] == "TaskDuration"]
        return 1000 * float(seconds)


def test_without_a_platform_it_says_how_to_get_one(page: Page, tmp_path: Path) -> None:
    with lab(tmp_path) as url:
        page.set_viewport_size({"width": 1200, "height": 800})
        page.goto(url)
        card = page.locator(".jp-LauncherCard", has_text="AIaaS Hub")
        card.click(timeout=START_MS)
        panel = page.get_by_role("region", name="AIaaS Hub")
        alert = panel.get_by_role("alert")
        for words in ("AIAAS_URL is not set", "JUPYTERHUB_API_TOKEN", "aiaas up", "make up"):
            expect(alert).to_contain_text(words, timeout=START_MS)
        expect(panel.get_by_role("button", name="Try again")).to_be_visible()
        look(page, "panel-without-a-platform")
        assert find_wrong(page, "#aiaas-panel") == []


def test_ten_thousand_rows_are_scrolled_through(
    page: Page, tmp_path: Path, long_service: tuple[str, list[str]]
) -> None:
    url, _ = long_service
    # As JupyterLab's page of settings keeps what was chosen.
    chosen = tmp_path / "settings" / "@aiaas-hub" / "labextension"
    chosen.mkdir(parents=True)
    (chosen / "panel.jupyterlab-settings").write_text('{"statusItem": false}')
    with lab(tmp_path, AIAAS_URL=url, JUPYTERHUB_API_TOKEN="any") as address:
        work = Work(page)
        opened = [work.of_opening(address) for _ in range(3)]
        panel = page.get_by_role("region", name="AIaaS Hub")
        for title, last in (("Runs", f"run-{MANY - 1}"), ("Datasets", f"data-{MANY - 1}")):
            section = panel.get_by_role("region", name=title, exact=True)
            rows = section.get_by_role("listitem")
            expect(rows.first).to_be_visible(timeout=START_MS)
            section.locator(".jp-aiaas-rows").evaluate(SCROLL, MANY)
            expect(row(panel, title, last)).to_be_visible(timeout=2 * START_MS)
            # Only what is seen is there, and a little around it.
            assert 1 < rows.count() < 40
        expect(page.get_by_role("button", name=re.compile("^AIaaS: "))).to_have_count(0)
        p95 = [work.of_frames("Runs") for _ in range(3)]
        assert min(opened) < 300, opened
        assert median(p95) < 50, p95
        # By what can be typed, too.
        section = panel.get_by_role("region", name="Runs", exact=True)
        section.get_by_role("searchbox").fill("trial-7777")
        expect(section.get_by_role("listitem")).to_have_count(1)


def test_where_nothing_goes_on_it_asks_once_in_ten_seconds_at_most(
    page: Page, tmp_path: Path, long_service: tuple[str, list[str]]
) -> None:
    url, asked = long_service
    # Two minutes go by as fast as the page is told that they do.
    page.clock.install()
    profile = {"AIAAS_PROFILE": "Small CPU"}
    with lab(tmp_path, AIAAS_URL=url, JUPYTERHUB_API_TOKEN="any", **profile) as address:
        page.goto(address)
        panel = open_panel(page)
        for name in ("run-0", "data-0"):
            expect(panel.get_by_text(name, exact=False).first).to_be_visible(timeout=START_MS)
        expect(panel.get_by_text("No endpoints yet")).to_be_visible()
        status = page.get_by_role("button", name="AIaaS: 0 runs · Small CPU")
        expect(status).to_be_visible()
        page.wait_for_timeout(500)
        by_tick = []
        for _ in range(12):
            before = len(asked)
            page.clock.fast_forward(10_000)
            page.wait_for_timeout(300)
            by_tick.append(asked[before:])
        assert max(map(len, by_tick)) == 1, by_tick
        # And it does ask: each of them once in a minute.
        told = [path for paths in by_tick for path in paths]
        assert sorted(set(told)) == ["datasets", "endpoints", "me", "models", "runs"]


def test_an_open_view_waits_for_its_turn(
    page: Page, tmp_path: Path, long_service: tuple[str, list[str]]
) -> None:
    url, asked = long_service
    # As JupyterLab brings a view back that was open when the page was left.
    view = "aiaas-endpoints-eve-still"
    opened = {"kind": "endpoints", "owner": "eve", "name": "still"}
    layout = {
        f"aiaas:{view}": {"data": opened},
        "layout-restorer:data": {
            "main": {
                "dock": {"type": "tab-area", "currentIndex": 0, "widgets": [f"aiaas:{view}"]},
                "current": f"aiaas:{view}",
            }
        },
    }
    page.clock.install()
    with lab(tmp_path, AIAAS_URL=url, JUPYTERHUB_API_TOKEN="any") as address:
        server, _, token = address.partition("/lab?token=")
        page.request.put(
            f"{server}/lab/api/workspaces/default?token={token}",
            data={"data": layout, "metadata": {"id": "default"}},
        )
        page.goto(address)
        shown = page.get_by_role("region", name="Endpoint still of eve")
        expect(shown).to_contain_text("No version is loaded.", timeout=START_MS)
        page.get_by_role("tab", name="AIaaS Hub", exact=True).click()
        panel = page.get_by_role("region", name="AIaaS Hub")
        expect(panel.get_by_text("run-0", exact=False).first).to_be_visible(timeout=START_MS)
        page.wait_for_timeout(500)
        by_tick = []
        for _ in range(20):
            before = len(asked)
            page.clock.fast_forward(10_000)
            page.wait_for_timeout(300)
            by_tick.append(asked[before:])
        assert max(map(len, by_tick)) == 1, by_tick
        told = {path for paths in by_tick for path in paths}
        still = "endpoints/eve/still"
        assert {still, f"{still}/statistics", f"{still}/drift", "runs", "models"} <= told


def test_it_speaks_chinese_where_jupyterlab_does(
    page: Page, tmp_path: Path, long_service: tuple[str, list[str]]
) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    chosen = tmp_path / "settings" / "@jupyterlab" / "translation-extension"
    chosen.mkdir(parents=True)
    (chosen / "plugin.jupyterlab-settings").write_text('{"locale": "zh_CN"}')
    environ = {"PYTHONPATH": str(make_language_pack(pack, "zh_CN"))}
    environ |= {"AIAAS_URL": long_service[0], "JUPYTERHUB_API_TOKEN": "any"}
    with lab(tmp_path, **environ) as url:
        page.set_viewport_size({"width": 1200, "height": 800})
        page.goto(url)
        tab = page.get_by_role("tab", name="AIaaS Hub", exact=True)
        tab.click(timeout=START_MS)
        panel = page.locator("#aiaas-panel")
        for title in ("数据集", "运行", "模型", "端点"):
            section = panel.get_by_role("region", name=title, exact=True)
            expect(section.get_by_role("searchbox", name=f"搜索{title}")).to_be_visible()
        expect(panel.get_by_text("尚无端点。发布一个运行的模型")).to_be_visible()
        expect(panel.get_by_role("button", name="刷新", exact=True)).to_be_visible()
        # Not a word of it is English, save names and code.
        for words in ("Datasets", "Insert", "No models yet"):
            expect(panel.get_by_text(words)).to_have_count(0)
        expect(page.get_by_role("button", name="AIaaS: 0 个运行")).to_be_visible()
        look(page, "panel-in-chinese")


def test_cells_of_magics_are_coloured_by_the_theme(page: Page, tmp_path: Path) -> None:
    sources = (TRAINING, QUERY, "%aiaas load flowers --into flowers")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells.append(nbformat.v4.new_markdown_cell("%aiaas runs"))
    language = {"name": "python", "mimetype": "text/x-python"}
    metadata = {"language_info": {**language, "codemirror_mode": {"name": "ipython"}}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "magics.ipynb"
    )
    with lab(tmp_path, "lab/tree/magics.ipynb") as url:
        page.set_viewport_size({"width": 1200, "height": 800})
        page.goto(url)
        # It is asked for a kernel otherwise.
        select = page.get_by_role("button", name="Select Kernel")
        train, query = (page.locator(".jp-CodeCell").nth(i) for i in range(2))
        expect(query.locator(".jp-aiaas-code-sql").first).to_be_visible(timeout=START_MS)
        if select.is_visible():
            select.click()
        expect(page.locator(".jp-aiaas-code-magic")).to_have_text(["%%aiaas", "%%aiaas", "%aiaas"])
        # Python's own parts of them, such as its operators, are around these.
        option = train.locator(".jp-aiaas-code-option", has_text="name").first
        filled = train.locator(".jp-aiaas-code-filled", has_text="rate").first
        keyword = query.get_by_text("GROUP", exact=True)
        told = {}
        for theme in ("light", "dark"):
            if theme == "dark":
                go_dark(page)
            parts = {"property": option, "variable-2": filled, "keyword": keyword}
            told[theme] = {name: part.evaluate(COLOURS, name) for name, part in parts.items()}
            for name, (colour, of_the_theme) in told[theme].items():
                assert colour == of_the_theme, name
            look(page, f"magics-{theme}")
        assert told["light"] != told["dark"]


TRAINING = """\
%%aiaas train --name "first try" --dataset flowers --param lr={rate} --detach
def train(ctx):
    frame = ctx.dataset().to_pandas()
    ctx.report(step=1, rows=len(frame))"""
QUERY = """\
%%aiaas sql --into top
-- Which of them are the dearest?
SELECT city, sum(price) AS total, 'in %' AS unit
FROM sales
WHERE year >= 2024 and city in ('Oslo', 'Bergen')
GROUP BY city"""
# Of a word and of the theme: as the page shows them.
COLOURS = """
(word, name) => {
    const probe = word.parentElement.appendChild(document.createElement("i"));
    probe.style.color = `var(--jp-mirror-editor-${name}-color)`;
    const colours = [word, probe].map(node => getComputedStyle(node).color);
    probe.remove();
    return colours;
}
"""
SCROLL = """
async (box, many) => {
    const last = () => box.querySelector(`[aria-posinset="${many}"]`);
    const until = Date.now() + 120000;
    while (!last() && Date.now() < until) {
        box.scrollTop += 2000;
        await new Promise(requestAnimationFrame);
    }
}
"""
