"""Many people at once, on our hub and on a bare one; then ours while its parts die.

    python tests/benchmarks/hub_load.py [USERS] [SESSIONS] [SECONDS]

`USERS` sign in and start a server that weighs next to nothing, as browsers would, `AT_ONCE` at a
time; then `SESSIONS` poll, each every ten seconds: our service's `/me` with a user's token, and
the bare hub's `/hub/api/user`. Times are medians and 99th percentiles in milliseconds; memory is of
hub, proxy and service in megabytes. The ratios are ours to the bare hub's, from one run. Engines
are left out: a Ray that is never reached, so that neither hub has work of theirs.

`restarts`: under the same polls each part is killed and started again. `seconds` until it answers,
`errors` of polls meanwhile, of which there may be; `lost` counts servers that do not answer
afterwards, and `errors_after` polls that fail once all is up again. Both have to be 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
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
from aiaas_hub.local import parts
from aiaas_hub.local.environment import kept_environment
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.node_proxy import proxy_command
from aiaas_hub.local.processes import end_processes, find_processes
from aiaas_hub.local.shipped import shipped
from aiaas_hub.loopback import free_ports, is_free

AT_ONCE = 8
POLL_SECONDS = 10.0
LIGHT = Path(__file__).with_name("light_server.py")
PASSWORD = "a-password-of-a-load-test"
HEALTH = "/services/aiaas/api/v1/health"

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
c.ServiceConfig.ray_address = "http://127.0.0.1:1"
c.Spawner.cmd = {cmd!r}
c.Spawner.args = []
c.SharedPasswordAuthenticator.user_password = {password!r}
"""
Processes = dict[str, psutil.Process]


def main(users: int = 20, sessions: int = 200, seconds: int = 20) -> dict[str, Any]:
    """Measure, print and return `{"bare": …, "ours": …, "ratio": …, "ok": …}`."""
    result: dict[str, Any] = {"users": users, "sessions": sessions}
    for name, hub in (("bare", bare_hub), ("ours", our_hub)):
        with (
            tempfile.TemporaryDirectory(prefix="aiaas-load-") as directory,
            hub(Path(directory)) as (url, processes, begin),
        ):
            result[name], tokens = measure(name, url, processes, users, sessions, seconds)
            if begin is not None:
                result["restarts"] = asyncio.run(
                    survive(url, processes, begin, tokens, users, sessions)
                )
    result["ratio"] = {
        what: round(result["ours"][what]["p50"] / result["bare"][what]["p50"], 2)
        for what in ("sign_in", "spawn", "poll")
    }
    survived = result["restarts"]
    result["ok"] = not (
        any(result[name]["errors"] for name in ("bare", "ours"))
        or survived["lost"]
        or survived["errors_after"]
    )
    sys.stdout.write(json.dumps(result) + "\n")
    return result


Begin = Callable[[str], psutil.Process]
Started = tuple[str, Processes, Begin | None]


@contextlib.contextmanager
def bare_hub(directory: Path) -> Iterator[Started]:
    port, hub_port, api_port = free_ports(3)
    config = BARE.format(
        port=port, hub_port=hub_port, api_port=api_port, directory=directory, password=PASSWORD,
        command=command(), cmd=[sys.executable, str(LIGHT)],
    )  # fmt: skip
    file = directory / "config.py"
    file.write_text(config)
    url = f"http://127.0.0.1:{port}"
    with ending() as started:
        argv = [sys.executable, "-m", "jupyterhub", "--config", str(file)]
        hub = start(argv, dict(os.environ), directory)
        started.append(hub)
        wait_for(f"{url}/hub/api/", directory)
        [proxy] = hub.children()
        yield url, {"hub": hub, "proxy": proxy}, None


@contextlib.contextmanager
def our_hub(directory: Path) -> Iterator[Started]:
    home = Home(directory / "home")
    home.prepare()
    home.config.write_text(OURS.format(cmd=[sys.executable, str(LIGHT)], password=PASSWORD))
    settings = parts.plan(home, four_ports(), {}, command())
    settings.write(home)
    with ending() as started:

        def begin(name: str) -> psutil.Process:
            argv, own = parts.command(parts.Part(name), home, settings)
            process = start(argv, {**kept_environment(os.environ), **own}, directory)
            started.append(process)
            return process

        processes = {part.value: begin(part.value) for part in parts.Part}
        wait_for(f"{settings.url}/hub/api/", directory)
        wait_for(f"{settings.url}{HEALTH}", directory)
        # The other engines' start is not what is measured.
        deadline = time.monotonic() + 60
        while "triton is ready" not in log_of(directory) and time.monotonic() < deadline:
            time.sleep(0.5)
        try:
            yield settings.url, processes, begin
        finally:
            # Engines outlive the service.
            end_processes(find_processes(settings.marker))


def four_ports() -> int:
    """The first of them."""
    return next(
        first
        for first in free_ports(50)
        if first < 65000 and all(is_free(first + more) for more in range(4))
    )


def command() -> list[str]:
    return proxy_command(shipped("hub_config") / "proxy", lambda text: None)


def start(argv: list[str], environ: dict[str, str], directory: Path) -> psutil.Process:
    with (directory / "log").open("ab") as log:
        return psutil.Popen(argv, cwd=directory, env=environ, stdout=log, stderr=log)


def log_of(directory: Path) -> str:
    return (directory / "log").read_text(errors="replace")


@contextlib.contextmanager
def ending() -> Iterator[list[psutil.Process]]:
    """What is put into the list, and whatever that started, is over afterwards."""
    started: list[psutil.Process] = []
    marked = set(psutil.pids())
    try:
        yield started
    finally:
        family = []
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += [*process.children(recursive=True), process]
        # Servers outlive the hub that started them, where it was killed.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid not in marked and str(LIGHT) in process.cmdline():
                    family.append(process)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(family, timeout=15)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def wait_for(address: str, directory: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address, trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(log_of(directory)[-3000:])


async def survive(
    url: str, processes: Processes, begin: Begin, tokens: list[str], users: int, sessions: int
) -> dict[str, Any]:
    """Kill each part under the sessions' polls, start it again, and see what is left."""
    result: dict[str, Any] = {}
    address = f"{url}/services/aiaas/api/v1/me"
    probes = {"proxy": f"{url}/hub/api/", "hub": f"{url}/hub/api/", "service": f"{url}{HEALTH}"}
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        for part in ("hub", "service", "proxy"):
            errors: list[str] = []
            polling = asyncio.create_task(poll(address, tokens, sessions, 30, errors))
            await asyncio.sleep(5)
            processes[part].kill()
            await asyncio.to_thread(processes[part].wait)
            began = time.monotonic()
            await asyncio.sleep(1)
            processes[part] = begin(part)
            while not await answers(client, probes[part]):
                await asyncio.sleep(0.2)
            seconds = round(time.monotonic() - began, 1)
            polls = await polling
            result[part] = {"seconds": seconds, "polls": len(polls), "errors": len(errors)}
        # The hub looks every 15 s whether the proxy knows all servers.
        await asyncio.sleep(20)
        errors = []
        result["after"] = spread(await poll(address, tokens, sessions, 15, errors))
        result["errors_after"] = len(errors)
        found = [await answers(client, f"{url}/user/user-{n}/lab") for n in range(users)]
        result["lost"] = found.count(False)
    return result


async def answers(client: httpx.AsyncClient, address: str) -> bool:
    try:
        return (await client.get(address)).status_code == 200
    except httpx.HTTPError:
        return False


def measure(
    name: str, url: str, processes: Processes, users: int, sessions: int, seconds: int
) -> tuple[dict[str, Any], list[str]]:
    """What is told of a hub, and the users' tokens."""
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
    return {
        "sign_in": spread(sign_ins),
        "spawn": spread(spawns),
        "poll": spread(polls) | {"count": len(polls)},
        "memory_mb": round(sum(one.memory_info().rss for one in processes.values()) / 1e6),
        "errors": len(errors),
        "first_errors": errors[:3],
    }, tokens


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
    # Ended from outside too it leaves nothing behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    sys.exit(not main(*map(int, sys.argv[1:]))["ok"])
