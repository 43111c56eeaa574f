"""Many people at once, on our hub and on a bare one.

    python tests/benchmarks/hub_load.py [USERS] [SESSIONS] [SECONDS]

`USERS` sign in and start a server that weighs next to nothing, as browsers would, `AT_ONCE` at a
time; then `SESSIONS` poll, each every ten seconds: our service's `/me` with a user's token, and the
bare hub's `/hub/api/user`. Times are medians and 99th percentiles in milliseconds; memory is of the
hub's own processes in megabytes. The ratios are ours to the bare hub's, from one run. Engines are
left out: a Ray that is never reached, so that neither hub has work of theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from aiaas_hub.home import Home
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.hub_settings import HubSettings
from aiaas_hub.local.node_proxy import proxy_command
from aiaas_hub.local.shipped import shipped
from aiaas_hub.loopback import free_ports

AT_ONCE = 8
POLL_SECONDS = 10.0
LIGHT = Path(__file__).with_name("light_server.py")
PASSWORD = "a-password-of-a-load-test"

BARE = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.command = {command!r}
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{directory}/cookie"
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{directory}/{{username}}"
c.Spawner.cmd = {cmd!r}
c.JupyterHub.cleanup_servers = True
"""
OURS = """
load_subconfig({shipped!r})
c.Spawner.cmd = {cmd!r}
c.Spawner.args = []
c.SharedPasswordAuthenticator.user_password = {password!r}
"""


def main(users: int = 20, sessions: int = 200, seconds: int = 20) -> dict[str, Any]:
    """Measure, print and return `{"bare": …, "ours": …, "ratio": …, "ok": …}`."""
    result: dict[str, Any] = {"users": users, "sessions": sessions}
    for name, hub in (("bare", bare_hub), ("ours", our_hub)):
        with (
            tempfile.TemporaryDirectory(prefix="aiaas-load-") as directory,
            hub(Path(directory)) as (url, process),
        ):
            result[name] = measure(name, url, process, users, sessions, seconds)
    result["ratio"] = {
        what: round(result["ours"][what]["p50"] / result["bare"][what]["p50"], 2)
        for what in ("sign_in", "spawn", "poll")
    }
    result["ok"] = not any(result[name]["errors"] for name in ("bare", "ours"))
    sys.stdout.write(json.dumps(result) + "\n")
    return result


@contextlib.contextmanager
def bare_hub(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    port, hub_port, api_port = free_ports(3)
    config = BARE.format(
        port=port, hub_port=hub_port, api_port=api_port, directory=directory, password=PASSWORD,
        command=command(), cmd=[sys.executable, str(LIGHT)],
    )  # fmt: skip
    with running(directory, config, port, "/hub/api/", {}) as process:
        yield f"http://127.0.0.1:{port}", process


@contextlib.contextmanager
def our_hub(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    home = Home(directory / "home")
    home.prepare()
    port, hub_port, api_port, service_port = free_ports(4)
    HubSettings(
        port=port, hub_port=hub_port, proxy_api_port=api_port, service_port=service_port,
        proxy_command=command(), marker="load-test",
    ).write(home)  # fmt: skip
    (home.root / "aiaas_config.py").write_text(
        'c.ServiceConfig.ray_address = "http://127.0.0.1:1"\n'
    )
    config = OURS.format(
        shipped=str(shipped("hub_config") / "jupyterhub_config.py"),
        cmd=[sys.executable, str(LIGHT)], password=PASSWORD,
    )  # fmt: skip
    environ = {"AIAAS_HOME": str(home.root)}
    health = "/services/aiaas/api/v1/health"
    with running(directory, config, port, health, environ) as process:
        # The other engines' start is not what is measured.
        log = home.logs / "service.log"
        deadline = time.monotonic() + 60
        while "triton is ready" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", process


def command() -> list[str]:
    return proxy_command(shipped("hub_config") / "proxy", lambda text: None)


@contextlib.contextmanager
def running(
    directory: Path, config: str, port: int, ready: str, environ: dict[str, str]
) -> Iterator[psutil.Process]:
    file = directory / "config.py"
    file.write_text(config)
    with (directory / "hub.log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "--config", str(file)],
            cwd=directory, env={**os.environ, **environ}, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}{ready}", directory)
            yield psutil.Process(started.pid)
        finally:
            family = psutil.Process(started.pid).children(recursive=True)
            started.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(90)
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def wait_for(address: str, directory: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address, trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError((directory / "hub.log").read_text()[-3000:])


def measure(
    name: str, url: str, process: psutil.Process, users: int, sessions: int, seconds: int
) -> dict[str, Any]:
    errors: list[str] = []
    sign_ins: list[float] = []
    spawns: list[float] = []
    tokens: list[str] = []

    def visit(number: int) -> None:
        try:
            with HubSession(url, f"user-{number}") as session:
                timed(sign_ins, lambda: session.sign_in(PASSWORD))
                if name == "ours":
                    timed(spawns, lambda: session.spawn("small"))
                else:
                    timed(spawns, lambda: spawn_bare(session))
                session.http.get("/hub/home")
                answer = session.http.post(
                    f"/hub/api/users/{quote(session.user)}/tokens",
                    headers={"X-XSRFToken": session.xsrf("/hub/")},
                    json={"note": "load"},
                )
                tokens.append(answer.raise_for_status().json()["token"])
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(visit, range(users)))
    path = "/services/aiaas/api/v1/me" if name == "ours" else "/hub/api/user"
    polls = asyncio.run(poll(f"{url}{path}", tokens, sessions, seconds, errors))
    hub = [process, *[one for one in process.children() if LIGHT.name not in str(one.cmdline())]]
    return {
        "sign_in": spread(sign_ins),
        "spawn": spread(spawns),
        "poll": spread(polls) | {"count": len(polls)},
        "memory_mb": round(sum(one.memory_info().rss for one in hub) / 1e6),
        "errors": len(errors),
        "first_errors": errors[:3],
    }


def spawn_bare(session: HubSession) -> None:
    session.http.get("/hub/spawn")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if "jupyter-config-data" in session.http.get(f"{session.server_path}/lab").text:
            return
        time.sleep(0.2)
    raise TimeoutError("the server does not answer")


def timed(into: list[float], step: Callable[[], None]) -> None:
    began = time.monotonic()
    step()
    into.append(1000 * (time.monotonic() - began))


async def poll(
    address: str, tokens: list[str], sessions: int, seconds: int, errors: list[str]
) -> list[float]:
    times: list[float] = []
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    end = time.monotonic() + seconds
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def one(number: int) -> None:
            # Spread over the interval, as people's browsers are.
            await asyncio.sleep(POLL_SECONDS * number / sessions)
            token = tokens[number % len(tokens)]
            while time.monotonic() < end:
                began = time.monotonic()
                try:
                    answer = await client.get(address, headers={"Authorization": f"Bearer {token}"})
                    answer.raise_for_status()
                    times.append(1000 * (time.monotonic() - began))
                except httpx.HTTPError as error:
                    errors.append(f"poll {type(error).__name__}: {error}"[:200])
                await asyncio.sleep(POLL_SECONDS)

        await asyncio.gather(*map(one, range(sessions)))
    return times


def spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
    }


if __name__ == "__main__":
    sys.exit(not main(*map(int, sys.argv[1:]))["ok"])
