"""JupyterLab with no hub around it, and a stand-in for a service with very long lists."""

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
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from aiaas_hub.loopback import free_ports

TOKEN = "token-of-the-notebook-server"
MANY = 10_000
PATIENCE = 120


@contextmanager
def lab(home: Path, opens: str = "lab", **environ: str) -> Iterator[str]:
    """Where it `opens` in a browser, signed in: JupyterLab at `lab…`, Notebook 7 at `notebooks/…`.

    Its files lie in `home`.
    """
    module = "jupyterlab" if opens.startswith("lab") else "notebook"
    port = free_ports(1)[0]
    command = [
        *(sys.executable, "-m", module, "--no-browser", "--allow-root", f"--port={port}"),
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
        yield f"{url}/{opens}?token={TOKEN}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            # Ended amid a reading of its contents, jupyter_server leaves a thread of AnyIO behind
            # that nothing wakes any more, and Python waits for that one.
            process.kill()
            process.wait(PATIENCE)


class LongLists(BaseHTTPRequestHandler):
    """A service of which somebody has `MANY` runs and datasets, and an endpoint at rest, which is
    in no list."""

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
        elif what.startswith("endpoints/"):
            answer = _of_endpoint(what.removeprefix("endpoints/eve/still"))
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


def _of_endpoint(part: str) -> dict[str, object]:
    match part:
        case "":
            shown = {"owner": "eve", "name": "still", "state": "serving", "url": "", "sleep": None}
            shares = {"traffic": {"1": 100}, "former": {}, "versions": [], "signature": None}
            return {**shown, **shares, "updated_at": AT}
        case "/statistics" | "/drift":
            return {"versions": []}
        case "/lineage":
            return {"model": None, "run": None, "datasets": []}
        case _:
            return {"items": [], "next_cursor": None}


@contextmanager
def long_lists() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that it was asked for, in order."""
    asked: list[str] = []

    class Handler(LongLists):
        def do_GET(self) -> None:
            asked.append(urlsplit(self.path).path.removeprefix("/api/v1/"))
            super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()
