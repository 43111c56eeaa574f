"""A platform with a certificate of somebody's own, whose parts prove to each other who they are."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from certipy import Certipy
from nbformat.v4 import new_code_cell, new_notebook
from running_platform import RunningPlatform

from aiaas_hub.local.hub_settings import HubSettings
from aiaas_hub.local.remote_kernel import RemoteKernel
from aiaas_hub.schemas.errors import Unavailable
from aiaas_magics.client import Client, Connection, Transport

pytestmark = pytest.mark.platform


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPlatform]:
    certificates = Certipy(store_dir=str(tmp_path / "certificates"))
    authority = certificates.create_ca("authority")["files"]["cert"]
    pair = certificates.create_signed_pair("hub", "authority", alt_names=["IP:127.0.0.1"])["files"]
    for name, value in {
        "AIAAS_TLS_CERTIFICATE_FILE": pair["cert"],
        "AIAAS_TLS_KEY_FILE": pair["key"],
        "AIAAS_CA_FILE": authority,
        "AIAAS_INTERNAL_TLS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    running = RunningPlatform.on(tmp_path / "home", reserve=False)
    running.home.profiles.write_text(
        "profiles:\n  - {slug: small, name: S, description: d, cpus: 1, memory: 2G, default: true,"
        " idle_limit: 60m}\n"
    )
    try:
        yield running
    finally:
        running.end()


def test_people_servers_and_service_work_with_certificates(
    own: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.start()
    assert own.url == f"https://127.0.0.1:{own.port}"
    with own.session("ada") as session:
        session.spawn("small")
        notebook = new_notebook(
            cells=[
                new_code_cell("%load_ext aiaas_magics\n%aiaas"),
                new_code_cell("import os; print(os.environ['JUPYTERHUB_API_TOKEN'], end='')"),
            ]
        )
        with RemoteKernel(session, directory="") as kernel:
            kernel.run(
                notebook, cell_timeout=60, stop_requested=lambda: False, progress=lambda text: None
            )
        said = notebook.cells[0].outputs[0].data["text/plain"]
        assert f"{own.url}/services/aiaas" in said
        assert "is stopped when nobody has worked in it for 1 h; runs go on" in said
        token = notebook.cells[1].outputs[0].text
        me = session.server_request("GET", "aiaas/api/v1/me")
        assert me.json()["user"] == "ada"
        page = session.http.get("/services/aiaas/")
        assert page.status_code == 200
        assert "ada" in page.text
        # The hub's `_xsrf` is no credential, and says nothing of TLS.
        open_ones = {cookie.name for cookie in session.http.cookies.jar if not cookie.secure}
        assert open_ones <= {"_xsrf"}
        assert session.http.get("/hub/home").status_code == 200

    # Who does not know the authority does not talk to the platform.
    monkeypatch.delenv("AIAAS_CA_FILE")
    with pytest.raises(Unavailable, match="certificate verify failed"):
        Client(Transport(Connection(f"{own.url}/services/aiaas", token), attempts=1)).me()

    # Inside, who has no certificate of the hub's is not listened to.
    settings = HubSettings.read(own.home)
    anybody = ssl._create_unverified_context()  # noqa: S323  # what an intruder has
    server = next(
        process for process in own.processes() if "jupyterhub.singleuser" in process.cmdline()
    )
    ports = [settings.hub_port, settings.proxy_api_port, port_of(server)]
    for port in ports:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"https://127.0.0.1:{port}/hub/api/", verify=anybody, trust_env=False)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/hub/api/", trust_env=False)
    assert "Traceback" not in (own.home.logs / "service.log").read_text()
    assert "idle" in (own.home.logs / "hub.log").read_text()
    own.stop()


def port_of(server: psutil.Process) -> int:
    environ = server.environ()
    port = httpx.URL(environ["JUPYTERHUB_SERVICE_URL"]).port
    assert port is not None
    return port
