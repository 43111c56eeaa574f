"""The side panel in a plain JupyterLab: with no platform, and before one with very long lists."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from lab_pages import START_MS, find_wrong, look, needs_extension, open_panel, row
from language_pack import make_language_pack
from playwright.sync_api import Page, expect
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from aiaas_hub.loopback import free_ports

pytestmark = needs_extension
TOKEN = "token-of-the-notebook-server"
MANY = 10_000
PATIENCE = 120


@contextmanager
def lab(home: Path, **environ: str) -> Iterator[str]:
    """Its address, by which a page is signed in."""
    port = free_ports(1)[0]
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}"),
        "--ServerApp.jpserver_extensions={'aiaas_magics.lab': True}",
        "--LabApp.news_url=None",
    ]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    isolated = {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**kept, **isolated, **environ}, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.ConnectError),
            stop=stop_after_delay(PATIENCE),
            wait=wait_fixed(0.1),
        ):
            with attempt:
                assert process.poll() is None, log.read_text()
                httpx.get(f"{url}/api").raise_for_status()
        yield f"{url}/lab?token={TOKEN}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


class LongLists(BaseHTTPRequestHandler):
    """A service of which somebody has `MANY` runs and datasets."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        at = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(at.query).items()}
        what = at.path.removeprefix("/api/v1/")
        begin, limit = int(query.get("cursor", 0)), int(query.get("limit", 50))
        end = min(begin + limit, MANY)
        if what == "me":
            quota = {name: {"used": 0, "limit": None} for name in ("runs", "workers", "gpus")}
            answer = {"user": "eve", "live_runs": 0, "quota": quota, "allowances": []}
        elif what in ("runs", "datasets"):
            make = _run if what == "runs" else _dataset
            more = str(end) if end < MANY else None
            answer = {"items": [make(i) for i in range(begin, end)], "next_cursor": more}
        else:
            answer = {"items": [], "next_cursor": None}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


AT = "2026-01-02T03:04:05Z"


def _run(i: int) -> dict[str, object]:
    times = dict.fromkeys(("created_at", "started_at", "finished_at"), AT)
    return {"id": f"run-{i}", "owner": "eve", "name": f"trial-{i}", "state": "succeeded", **times}


def _dataset(i: int) -> dict[str, object]:
    latest = {"version": 1, "rows": i, "size": 100 * i, "columns": [], "created_at": AT}
    return {"owner": "eve", "name": f"data-{i}", "tags": [], "updated_at": AT, "latest": latest}


@pytest.fixture
def long_lists() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), LongLists)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_without_a_platform_it_says_how_to_get_one(page: Page, tmp_path: Path) -> None:
    with lab(tmp_path) as url:
        page.set_viewport_size({"width": 1200, "height": 800})
        page.goto(url)
        panel = open_panel(page)
        alert = panel.get_by_role("alert")
        for words in ("AIAAS_URL is not set", "JUPYTERHUB_API_TOKEN", "aiaas up", "make up"):
            expect(alert).to_contain_text(words, timeout=START_MS)
        expect(panel.get_by_role("button", name="Try again")).to_be_visible()
        look(page, "panel-without-a-platform")
        assert find_wrong(page, "#aiaas-panel") == []


def test_ten_thousand_rows_are_scrolled_through(
    page: Page, tmp_path: Path, long_lists: str
) -> None:
    with lab(tmp_path, AIAAS_URL=long_lists, JUPYTERHUB_API_TOKEN="any") as url:
        page.goto(url)
        panel = open_panel(page)
        section = panel.get_by_role("region", name="Runs", exact=True)
        rows = section.get_by_role("listitem")
        expect(rows.first).to_be_visible(timeout=START_MS)
        times = section.locator(".jp-aiaas-rows").evaluate(SCROLL, MANY)
        expect(row(panel, "Runs", f"run-{MANY - 1}")).to_be_visible()
        assert rows.count() < 100
        times.sort()
        print(f"{len(times)} frames, p95 {times[int(0.95 * len(times))]:.0f} ms")
        # By what can be typed, too.
        section.get_by_role("searchbox").fill("trial-7777")
        expect(rows).to_have_count(1)


def test_it_speaks_chinese_where_jupyterlab_does(page: Page, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    chosen = tmp_path / "settings" / "@jupyterlab" / "translation-extension"
    chosen.mkdir(parents=True)
    (chosen / "plugin.jupyterlab-settings").write_text('{"locale": "zh_CN"}')
    with lab(tmp_path, PYTHONPATH=str(make_language_pack(pack, "zh_CN"))) as url:
        page.set_viewport_size({"width": 1200, "height": 800})
        page.goto(url)
        tab = page.get_by_role("tab", name="AIaaS Hub", exact=True)
        tab.click(timeout=START_MS)
        again = page.locator("#aiaas-panel").get_by_role("button", name="重试", exact=True)
        expect(again).to_be_visible(timeout=START_MS)
        look(page, "panel-in-chinese")


SCROLL = """
async (box, many) => {
    const times = [];
    const frame = () => new Promise(requestAnimationFrame);
    let before = await frame();
    const last = () => box.querySelector(`[aria-posinset="${many}"]`);
    const until = Date.now() + 120000;
    while (!last() && Date.now() < until) {
        box.scrollTop += 2000;
        const now = await frame();
        times.push(now - before);
        before = now;
    }
    return times;
}
"""
