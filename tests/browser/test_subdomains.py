"""A host for each user's server and for the service: what one of them sets, no other one gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from lab_pages import NASTY, enter_lab
from playwright.sync_api import Page, expect
from running_platform import RunningPlatform

pytestmark = pytest.mark.platform

HUB = "hub.localhost"
SERVICE = f"aiaas--service.{HUB}"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPlatform]:
    # Browsers take every name below localhost for this machine.
    monkeypatch.setenv("AIAAS_HOST_NAME", HUB)
    monkeypatch.setenv("AIAAS_SUBDOMAINS", "1")
    running = RunningPlatform.on(tmp_path / "home", reserve=False)
    try:
        yield running
    finally:
        running.end()


def test_each_server_and_the_service_have_a_host_of_their_own(
    own: RunningPlatform, page: Page
) -> None:
    own.start()
    assert own.url == f"http://{HUB}:{own.port}"
    enter_lab(page, own, NASTY)
    server = urlsplit(page.url).hostname or ""
    assert server.endswith(f".{HUB}")
    assert server != SERVICE

    # The side panel's way to the service.
    me = page.evaluate(
        """async () => {
            const base = JSON.parse(document.getElementById("jupyter-config-data").text).baseUrl;
            const [, token] = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
            const headers = {"X-XSRFToken": token};
            return await (await fetch(`${base}aiaas/api/v1/me`, {headers})).json();
        }"""
    )
    assert me.get("user") == NASTY, me

    # The page of the service signs in by way of the hub, and comes back to its own host.
    visit = page.context.new_page()
    visit.goto(f"http://{SERVICE}:{own.port}/services/aiaas/")
    expect(visit.locator("body")).to_contain_text(NASTY)
    assert urlsplit(visit.url).hostname == SERVICE
    visit.close()

    hosts: dict[str, set[str]] = {}
    for cookie in page.context.cookies():
        hosts.setdefault(cookie["name"], set()).add(cookie["domain"])
    assert hosts.pop("jupyterhub-session-id") == {f".{HUB}"}, "no secret: for signing out"
    assert hosts["jupyterhub-hub-login"] == {HUB}
    [of_server] = [name for name in hosts if name.startswith("jupyterhub-user-")]
    assert hosts[of_server] == {server}
    [of_page] = [name for name, where in hosts.items() if where == {SERVICE}]
    assert "aiaas" in of_page
    for name, where in hosts.items():
        assert not [host for host in where if host.startswith(".")], name

    # What runs in somebody's server reads nothing of hub or service, and changes nothing there.
    for address in (f"http://{HUB}:{own.port}/hub/api/user", f"http://{SERVICE}:{own.port}/"):
        refused = page.evaluate(
            """async address => {
                try { await fetch(address, {credentials: "include"}); return "it was read"; }
                catch (error) { return error.name; }
            }""",
            address,
        )
        assert refused == "TypeError", address
    own.stop()
