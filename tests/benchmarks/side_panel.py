"""The side panel of somebody with 10,000 runs and 10,000 datasets, in JupyterLab and Chromium: how
soon it is open, how smoothly its lists scroll, and how often it asks while nothing goes on.

Prints one line of JSON; times in milliseconds. `opens`: from the click on its tab until the first
rows of both lists are drawn, each time in a page that was just loaded. Frames are as long as the
browser took from one to the next, once while more and more of a list is read, and once back up.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lab_alone import MANY, lab, long_lists
from panel_motion import OPEN, TAB, TURN, WHEEL
from playwright.sync_api import Page, sync_playwright

OPENINGS = 5
IDLE_SECONDS = 60
SCROLL = f"""
async ([title, many, wheel]) => {{
    const box = document.querySelector(`section[aria-label="${{title}}"] .jp-aiaas-rows`);
    const turn = {TURN.strip()};
    const through = async (by, isDone) => {{
        const times = [];
        const until = Date.now() + 180000;
        let before = await turn(box, 0);
        while (!isDone() && Date.now() < until) {{
            const now = await turn(box, by);
            times.push(now - before);
            before = now;
        }}
        return times;
    }};
    const down = await through(
        wheel, () => box.querySelector(`[aria-posinset="${{many}}"]`)
    );
    const rows = box.querySelectorAll('.jp-aiaas-row').length;
    const up = await through(-wheel, () => box.scrollTop === 0);
    return {{down, up, rows}};
}}
"""


def main() -> dict[str, Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return {"skipped": "Chromium is missing: apt install chromium"}
    with (
        tempfile.TemporaryDirectory(prefix="aiaas-benchmark-") as home,
        long_lists() as (service, asked),
        lab(Path(home), AIAAS_URL=service, JUPYTERHUB_API_TOKEN="any") as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        opens = []
        for _ in range(OPENINGS):
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(address)
            page.locator(TAB).wait_for()
            page.locator(".jp-LauncherCard").first.wait_for()
            # What JupyterLab does as it starts is not what is measured.
            page.wait_for_timeout(3000)
            opens.append(page.evaluate(OPEN))
            if len(opens) < OPENINGS:
                page.close()
        scrolled = {title.lower(): _scroll(page, title) for title in ("Runs", "Datasets")}
        page.wait_for_timeout(2000)
        before, began = len(asked), time.monotonic()
        page.wait_for_timeout(IDLE_SECONDS * 1000)
        idle = {"requests": len(asked) - before, "seconds": round(time.monotonic() - began)}
        browser.close()
    return {
        "rows_of_each": MANY,
        "opens": {"median": round(median(opens)), "worst": round(max(opens))},
        "frames": scrolled,
        "idle": idle,
    }


def _scroll(page: Page, title: str) -> dict[str, Any]:
    found = page.evaluate(SCROLL, [title, MANY, WHEEL])
    rows = found.pop("rows")
    return {"rows_in_the_page": rows, **{way: _frames(times) for way, times in found.items()}}


def _frames(times: list[float]) -> dict[str, int]:
    times = sorted(times)
    return {
        "count": len(times),
        "median": round(median(times)),
        "p95": round(times[int(0.95 * len(times))]),
        "worst": round(times[-1]),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
