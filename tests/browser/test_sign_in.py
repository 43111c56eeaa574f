"""Sign-in with a real OpenID provider, in a real browser, to the real hub and to the page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from oidc_provider_mock import User, run_server_in_thread
from playwright.sync_api import Page
from running_platform import RunningPlatform

pytestmark = pytest.mark.platform

NASTY = "ada<'&\">"
PEOPLE = (
    User(sub="ada", claims={"preferred_username": NASTY, "groups": ["research", "aiaas-admins"]}),
    User(sub="root", claims={"preferred_username": "root", "groups": ["ops"]}),
    User(sub="eve", claims={"preferred_username": "eve", "groups": ["others"]}),
)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPlatform]:
    secret = tmp_path / "secret"
    secret.write_text("canary-of-the-provider\n")
    for name, value in {
        "AIAAS_SIGN_IN": "oidc",
        "AIAAS_SIGN_IN_CLIENT_ID": "aiaas",
        "AIAAS_SIGN_IN_CLIENT_SECRET_FILE": str(secret),
        "AIAAS_SIGN_IN_ALLOWED_GROUPS": "research,ops",
        "AIAAS_SIGN_IN_ADMIN_GROUPS": "ops",
        "AIAAS_SIGN_IN_REFRESH_SECONDS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    running = RunningPlatform.on(tmp_path / "home", reserve=False)
    try:
        yield running
    finally:
        running.end()


def sign_in(page: Page, platform: RunningPlatform, who: str) -> None:
    page.context.clear_cookies()
    page.goto(f"{platform.url}/hub/login?next=/hub/home")
    page.locator("a.btn-jupyter, .service-login a").first.click()
    page.locator("input[name=sub]").fill(who)
    page.get_by_role("button", name="Authorize").first.click()


# The provider is somebody else's code, and runs in this process.
@pytest.mark.filterwarnings("ignore")
def test_people_of_a_provider_sign_in_with_their_groups(
    own: RunningPlatform, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with run_server_in_thread(user_claims=PEOPLE) as provider:
        monkeypatch.setenv("AIAAS_SIGN_IN_ISSUER", f"http://localhost:{provider.server_port}")
        own.start()

        sign_in(page, own, "eve")
        page.get_by_text("not currently authorized").first.wait_for()
        assert page.goto(f"{own.url}/hub/home") is not None
        assert "/login" in page.url

        sign_in(page, own, "root")
        page.wait_for_url("**/hub/home")
        page.goto(f"{own.url}/services/aiaas/")
        page.get_by_text("administrator: this page shows everybody's").wait_for()

        sign_in(page, own, "ada")
        page.wait_for_url("**/hub/home")
        page.get_by_text(NASTY).first.wait_for()
        page.goto(f"{own.url}/services/aiaas/")
        page.get_by_role("heading", name="Engines").wait_for()
        assert page.get_by_text(NASTY).count()
        assert not page.get_by_text("administrator").count()
        groups = page.request.get(f"{own.url}/hub/api/user").json()["groups"]
        assert groups == ["research"]

    # The provider is gone; a refresh is due, and work goes on.
    time.sleep(1.5)
    answer = page.goto(f"{own.url}/hub/home")
    assert answer is not None
    assert answer.status == 200
    assert page.url.endswith("/hub/home")
    page.goto(f"{own.url}/hub/logout")
    page.goto(f"{own.url}/hub/home")
    assert "/login" in page.url

    begun = [parse_qs(urlsplit(url).query) for url in asked if "/oauth2/authorize" in url]
    assert begun
    assert all(query["code_challenge_method"] == ["S256"] for query in begun)
    everything = json.dumps(asked) + own.logs()
    assert "canary-of-the-provider" not in everything
    for process in own.processes():
        if "jupyterhub.singleuser" in process.cmdline() or "aiaas_hub.app" in process.cmdline():
            assert not [name for name in process.environ() if name.startswith("AIAAS_SIGN_IN")]
    own.stop()
