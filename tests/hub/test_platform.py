"""The platform as its users and its operator meet it: real hub, proxy, service and servers."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import textwrap
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from running_platform import RunningPlatform

from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.remote_kernel import CellFailed, RemoteKernel
from aiaas_hub.schemas.errors import Unauthenticated
from aiaas_hub.spawner.gpus import nvidia_gpu_count

pytestmark = pytest.mark.platform

NASTY = "testuser<'&\">"
without_gpu = pytest.mark.skipif(nvidia_gpu_count() > 0, reason="this machine has a GPU")


def rest(session: HubSession, method: str, path: str, **arguments: Any) -> httpx.Response:
    """The hub's REST API with the browser's cookies."""
    session.http.get("/hub/home").raise_for_status()
    return session.http.request(
        method,
        f"/hub/api/{path}",
        headers={"X-XSRFToken": session.xsrf("/hub/")},
        **arguments,
    )


def servers(session: HubSession) -> dict[str, Any]:
    answer = rest(session, "GET", "user").raise_for_status().json()
    return dict(answer["servers"] or {}) | ({"pending": True} if answer.get("pending") else {})


def run(session: HubSession, *sources: str, cell_timeout: float = 60) -> nbformat.NotebookNode:
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    with RemoteKernel(session, directory="examples") as kernel:
        kernel.run(
            notebook,
            cell_timeout=cell_timeout,
            stop_requested=lambda: False,
            progress=lambda text: None,
        )
    return notebook


@pytest.fixture(scope="module")
def visitor(platform: RunningPlatform) -> Iterator[HubSession]:
    """Somebody with a difficult name and a small server."""
    with platform.session(NASTY) as session:
        session.spawn("small")
        yield session
        rest(session, "DELETE", f"users/{session.server_path.removeprefix('/user/')}/server")


def test_the_facts_are_written_for_the_owner_only(platform: RunningPlatform) -> None:
    assert set(platform.facts) == {"url", "gateway", "user_password", "admin_password", "pid"}
    assert stat.S_IMODE(platform.home.platform_file.stat().st_mode) == 0o600
    for path in platform.home.secrets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(platform.home.root.stat().st_mode) == 0o700


@pytest.mark.parametrize("user", ["ada", "admin"])
def test_a_wrong_password_does_not_sign_in(platform: RunningPlatform, user: str) -> None:
    wrong = platform.facts["user_password"] if user == "admin" else "wrong-password"
    with HubSession(platform.url, user) as session, pytest.raises(Unauthenticated):
        session.sign_in(wrong)


class Radios(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str | None]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = dict(attrs)
        if tag == "input" and fields.get("type") == "radio":
            self.found[str(fields["value"])] = fields


@without_gpu
def test_the_spawn_page_offers_profiles_and_says_why_not_gpu(platform: RunningPlatform) -> None:
    with platform.session("chooser") as session:
        page = session.spawn_page()
    radios = Radios(page).found
    assert set(radios) == {"small", "large", "gpu"}
    assert [slug for slug, radio in radios.items() if "disabled" in radio] == ["gpu"]
    assert "no NVIDIA GPU on this machine" in page


@without_gpu
@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ({"profile": "huge"}, 403, "no profile"),
        ({"profile": "gpu"}, 403, "no NVIDIA GPU on this machine"),
        ({"profile": ["small"]}, 400, "must be one name"),
        ({"profile": "small", "cmd": ["sh"]}, 400, "cmd"),
    ],
)
def test_a_tampered_spawn_request_starts_nothing(
    platform: RunningPlatform, options: dict[str, object], status: int, says: str
) -> None:
    with platform.session("mallory") as session:
        answer = rest(session, "POST", "users/mallory/server", json=options)
        assert answer.status_code == status, answer.text
        assert says in answer.json()["message"]
        assert not servers(session)
    assert not [
        process
        for process in platform.processes()
        if process.environ().get("JUPYTERHUB_USER") == "mallory"
    ]


def test_a_tampered_form_starts_nothing(platform: RunningPlatform) -> None:
    with platform.session("mallory") as session:
        answer = session.request_server("huge")
        assert answer.status_code == 403
        assert "There is no profile &#39;huge&#39;" in answer.text
        assert not servers(session)


def test_a_server_works_within_its_profile(visitor: HubSession, platform: RunningPlatform) -> None:
    notebook = run(
        visitor,
        "import os, pathlib\n"
        "names = 'AIAAS_PROFILE', 'OMP_NUM_THREADS', 'AIAAS_URL'\n"
        "print(*[os.environ[name] for name in names])\n"
        "print('CANARY_SECRET' in os.environ, pathlib.Path.cwd().name)\n",
    )
    text = notebook.cells[0].outputs[0].text
    assert text == f"small 1 {platform.url}/services/aiaas\nFalse examples\n"


def test_a_failing_cell_is_said_and_its_outputs_are_kept(visitor: HubSession) -> None:
    with pytest.raises(CellFailed, match=r"Cell 1 .*ZeroDivisionError"):
        run(visitor, "print('before')\n1/0")


def test_the_readmes_tour_works_as_typed(visitor: HubSession) -> None:
    readme = Path(__file__).parents[2] / "README.md"
    blocks = re.findall(r"^   ```python\n(.*?)^   ```$", readme.read_text(), re.M | re.S)
    assert len(blocks) == 7
    notebook = run(visitor, *map(textwrap.dedent, blocks), cell_timeout=300)
    [accuracy] = [
        float(re.sub(r"np.float64\((.*)\)", r"\1", output.data["text/plain"]))
        for output in notebook.cells[4].outputs
        if output.output_type == "execute_result"
    ]
    assert accuracy > 0.9


def test_a_notebooks_token_may_what_its_user_may_and_no_more(
    visitor: HubSession, platform: RunningPlatform
) -> None:
    notebook = run(visitor, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'], end='')")
    token = notebook.cells[0].outputs[0].text
    answer = httpx.get(
        f"{platform.url}/hub/api/user", headers={"Authorization": f"Bearer {token}"}
    ).raise_for_status()
    scopes = set(answer.json()["scopes"])
    ours = {scope for scope in scopes if scope.startswith(("custom:", "access:services"))}
    assert ours == {
        f"custom:aiaas:{verb}!user={NASTY}"
        for verb in ("read", "data:write", "runs:write", "models:write", "endpoints:write")
    } | {"access:services!service=aiaas"}
    unfiltered = {scope for scope in scopes if "!" not in scope}
    assert unfiltered <= {"read:users:name!user"}, unfiltered


def test_no_secret_is_in_a_command_line_or_the_hubs_log(platform: RunningPlatform) -> None:
    secrets = {
        path.name: path.read_text().strip()
        for path in platform.home.secrets.iterdir()
        if path.is_file()
    }
    assert {"user_password", "service_token", "proxy_auth_token", "cookie_secret"} <= set(secrets)
    secrets["canary"] = "canary-of-the-shell"
    lines = [" ".join(process.cmdline()) for process in platform.processes()]
    assert lines
    log = (platform.home.logs / "hub.log").read_text()
    environments = [process.environ() for process in platform.processes()]
    for name, secret in secrets.items():
        assert not [line for line in lines if secret in line], name
        assert secret not in log, name
    assert not [environ for environ in environments if "CANARY_SECRET" in environ]


def test_the_service_gets_what_installing_and_the_network_need(platform: RunningPlatform) -> None:
    [service] = [
        process for process in platform.processes() if "aiaas_hub.app" in process.cmdline()
    ]
    environ = service.environ()
    assert environ["PIP_DISABLE_PIP_VERSION_CHECK"] == "1"
    assert environ["PATH"] == os.environ["PATH"]


def test_hub_proxy_service_and_servers_listen_on_loopback_only(
    platform: RunningPlatform, visitor: HubSession
) -> None:
    mine = [
        process
        for process in platform.processes()
        if any(
            word in " ".join(process.cmdline())
            for word in ("jupyterhub", "configurable-http-proxy", "aiaas_hub.app", "ipykernel")
        )
    ]
    addresses = {
        connection.laddr.ip
        for process in mine
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(mine) >= 4
    assert addresses
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses), addresses


def test_a_second_platform_on_the_same_home_refuses(platform: RunningPlatform) -> None:
    before = platform.output.stat().st_size
    second = platform.command(port=platform.port + 1)
    assert second.wait(30) == 1
    said = platform.output.read_text()[before:]
    assert "already" in said
    assert platform.url in said
    assert "Traceback" not in said
    assert httpx.get(f"{platform.url}/hub/api/").status_code == 200


def test_a_killed_service_is_back_within_seconds(platform: RunningPlatform) -> None:
    [service] = [
        process for process in platform.processes() if "aiaas_hub.app" in process.cmdline()
    ]
    service.kill()
    service.wait(5)
    begun = time.monotonic()
    while time.monotonic() - begun < 30:
        answer = httpx.get(f"{platform.url}/services/aiaas/api/v1/health")
        if answer.status_code == 200:
            break
        time.sleep(0.1)
    assert answer.status_code == 200
    # Two seconds to notice; the rest is the service's own start on a busy machine.
    assert time.monotonic() - begun < 20
