"""A person's way to a server in a pod, in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from bed.api import CORE, KubeApi
from bed.control_plane import ControlPlane
from cluster_hub import USERS, ClusterHub, cluster_hub
from lab_pages import NASTY, look, start_button
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROFILES = [
    {"slug": "small", "name": "Small", "description": "d", "cpus": 1, "memory": "1G"},
    {
        "slug": "lost",
        "name": "Lost",
        "description": "d",
        "cpus": 1,
        "memory": "1G",
        "image": "registry.example/does-not-exist:1",
        "default": True,
    },
]


@pytest.fixture(scope="module")
def hub(
    platform_objects: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterHub]:
    root = tmp_path_factory.mktemp("hub") / "hub"
    with cluster_hub(platform_objects, root, PROFILES, 60) as running:
        yield running


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_page(viewport={"width": 1200, "height": 900})
        browser.close()


def test_a_person_reads_why_and_then_gets_a_server(
    hub: ClusterHub, api: KubeApi, page: Page
) -> None:
    page.goto(hub.url)
    page.get_by_label("Username").fill(NASTY)
    page.get_by_label("Password").fill(hub.password)
    page.keyboard.press("Enter")
    start_button(page).click()
    sentence = page.get_by_text("The image registry.example/does-not-exist:1 cannot be pulled.")
    expect(sentence.first).to_be_visible(timeout=180_000)
    look(page, "kubernetes-refused")
    page.goto(f"{hub.url}/hub/spawn")
    page.get_by_role("radio", name=re.compile("Small")).check()
    start_button(page).click()
    page.locator("#jp-top-panel").wait_for(timeout=90_000)
    look(page, "kubernetes-lab")
    pods = api.items(f"{CORE}/namespaces/{USERS}/pods")
    assert [pod["metadata"]["annotations"]["hub.jupyter.org/username"] for pod in pods] == [NASTY]
