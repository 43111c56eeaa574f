"""Servers that are stopped by themselves: who works in one is warned, and may go on.

A minute of the profiles file lasts a few seconds here, and everybody looks once a second.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_pages import START_MS, needs_extension, sign_in, start_button, start_server
from playwright.sync_api import Browser, Locator, Page, expect
from running_platform import RunningPlatform
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.remote_kernel import RemoteKernel

pytestmark = [pytest.mark.platform, needs_extension]

MINUTE = 4
IDLE_SECONDS = 5 * MINUTE
PROFILES = """
profiles:
  - {slug: idle, name: Idle, description: d, cpus: 1, memory: 2G, idle_limit: 5m, default: true}
  - {slug: short, name: Short, description: d, cpus: 1, memory: 2G, max_lifetime: 12m}
"""
# Read by the hub, by its culler and by the service.
CONFIG = f"""
from datetime import timedelta
from aiaas_hub.spawner import profiles
profiles._UNITS["m"] = {MINUTE}
profiles.LEAST_IDLE_LIMIT = timedelta(0)
c.Spawner.environment.update({{"JUPYTERHUB_ACTIVITY_INTERVAL": "1"}})
c.Spawner.poll_interval = 1
c.LocalSpawner.warning_seconds = 30
c.IdleCuller.cull_every = 1
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningPlatform]:
    running = RunningPlatform.on(tmp_path / "home", reserve=False)
    running.home.profiles.write_text(PROFILES)
    with running.home.config.open("a") as config:
        config.write(CONFIG)
    try:
        yield running
    finally:
        running.end()


def has_server(session: HubSession) -> bool:
    own = {"X-XSRFToken": session.xsrf("/hub/")}
    found = session.http.get(f"/hub/api/users/{session.user}", headers=own).raise_for_status()
    return bool(found.json()["servers"])


def await_end(session: HubSession, seconds: float) -> None:
    waiting = Retrying(
        retry=retry_if_result(bool), stop=stop_after_delay(seconds), wait=wait_fixed(0.5)
    )
    waiting(has_server, session)


def enter(page: Page, platform: RunningPlatform, user: str, profile: str) -> Locator:
    """The warning of that server's page, once it is there."""
    sign_in(page, platform, user)
    expect(start_button(page)).to_be_visible(timeout=START_MS)
    page.get_by_role("radio", name=re.compile(profile)).check()
    start_server(page)
    return page.get_by_role("alert").filter(has_text="it stops in")


def test_who_works_is_warned_and_a_busy_server_goes_on(
    own: RunningPlatform, page: Page, browser: Browser
) -> None:
    own.start()
    with own.session("busy") as busy, own.session("ada") as ada, own.session("old") as old:
        busy.spawn("idle")
        with RemoteKernel(busy, directory="") as kernel:
            # It says nothing all the while, and no page looks at it.
            kernel._send("busy", "execute_request", {"code": "import time; time.sleep(600)"})

            other = browser.new_page()
            dying = enter(other, own, "old", "Short")
            expect(dying).to_contain_text("it stops in less than a minute, whatever runs in it")
            dying.get_by_role("button", name="Save all").click()

            idle = enter(page, own, "ada", "Idle")
            # The page is in front and asks for lists; nobody touches it.
            expect(idle).to_contain_text("Nobody has worked in this server for a while")
            idle.get_by_role("button", name="Keep working").click()
            kept = time.monotonic()
            expect(idle).to_be_hidden()
            while time.monotonic() < kept + IDLE_SECONDS - 5:
                assert has_server(ada)
                time.sleep(0.5)
            await_end(ada, 2 * IDLE_SECONDS)
            assert time.monotonic() - kept >= IDLE_SECONDS - 1
            await_end(old, 60)
            assert has_server(busy)
            other.close()
    own.stop()
