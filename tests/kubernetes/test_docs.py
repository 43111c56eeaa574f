"""docs/kubernetes.md as an administrator would follow it, as far as there is no registry here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from bed.api import CORE
from bed.control_plane import ControlPlane
from manifests import as_the_bed_has_it

from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.node_proxy import proxy_command
from aiaas_hub.local.shipped import shipped
from aiaas_hub.loopback import free_ports
from aiaas_hub.spawner import roles
from aiaas_hub.spawner.cluster_settings import ClusterSettings
from aiaas_hub.spawner.kubernetes import profile_list
from aiaas_hub.spawner.profiles import load_profiles

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "kubernetes.md").read_text()


def block(kind: str) -> str:
    found = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, kind
    return str(found[0])


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "aiaas-hub").mkdir()
    (tmp_path / "aiaas-hub" / "hub_config").symlink_to(ROOT / "hub_config")
    for name in ("kustomization.yaml", "hub.yaml", "profiles.yaml"):
        (tmp_path / name).write_text(block(f"yaml {name}"))
    return tmp_path


def test_the_settings_are_what_the_hub_reads(overlay: Path) -> None:
    settings = ClusterSettings.model_validate(yaml.safe_load((overlay / "hub.yaml").read_text()))
    assert settings.storage_class == "standard"
    found = profile_list(load_profiles(overlay / "profiles.yaml"), frozenset({"research"}))
    limits = found[1]["kubespawner_override"]["extra_resource_limits"]
    assert limits == {"nvidia.com/mig-1g.10gb": "1"}


def test_the_overlay_replaces_settings_and_images(
    overlay: Path, platform_objects: ControlPlane
) -> None:
    done = platform_objects.kubectl("kustomize", str(overlay))
    assert done.returncode == 0, done.stderr
    manifests = [as_the_bed_has_it(one) for one in yaml.safe_load_all(done.stdout)]
    named = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
    data = named["ConfigMap", "hub-settings"]["data"]
    assert "https://aiaas.example" in data["hub.yaml"]
    hub = named["Deployment", "hub"]["spec"]["template"]["spec"]["containers"][0]
    assert hub["image"] == "registry.example/aiaas-hub/hub:0.1.0"
    done = platform_objects.kubectl(
        "apply",
        "--validate=true",
        "--dry-run=server",
        "-f-",
        stdin=yaml.safe_dump_all(manifests),
    )
    assert done.returncode == 0, done.stderr


def test_the_secrets_hold_what_hub_and_service_ask_for(platform_objects: ControlPlane) -> None:
    commands = block("bash").replace("kubectl create namespace aiaas\n", "")
    environ = {**os.environ, "KUBECONFIG": str(platform_objects.kubeconfig)}
    subprocess.run(["bash", "-euc", commands], check=True, env=environ, timeout=60)  # noqa: S607 - the reader's own
    secrets = f"{CORE}/namespaces/aiaas/secrets"
    config = (ROOT / "hub_config" / "kubernetes" / "jupyterhub_config.py").read_text()
    asked = set(re.findall(r'settings\.secret\("(\w+)"\)', config))
    assert set(platform_objects.api.get(f"{secrets}/hub")["data"]) == asked
    assert set(platform_objects.api.get(f"{secrets}/service")["data"]) == {"records_url"}
    for name in ("hub", "service"):
        platform_objects.api.delete(f"{secrets}/{name}")


VALUES = yaml.safe_load(block("yaml values.yaml"))
PASSWORD = "a-password-of-the-test"
HUB = f"""
import yaml
values = yaml.safe_load({yaml.safe_dump(VALUES["hub"])!r})
c = get_config()
# As the chart makes configuration of its values.
for section, traits in values["config"].items():
    c[section].update(traits)
c.JupyterHub.load_roles = [{{"name": name, **role}} for name, role in values["loadRoles"].items()]
c.JupyterHub.services = [
    {{"name": name, "api_token": "the-token-of-{{}}".format(name), **service}}
    for name, service in values["services"].items()
]
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = {PASSWORD!r}
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
"""


def test_what_another_hub_is_told_are_the_roles_of_our_own() -> None:
    hub = VALUES["hub"]
    config, told = hub["config"], hub["loadRoles"]
    assert config["JupyterHub"]["custom_scopes"] == roles.CUSTOM_SCOPES
    assert config["Spawner"]["server_token_scopes"] == roles.SERVER_SCOPES
    assert told["user"]["scopes"] == ["self", *roles.OWN_THINGS, roles.USE_SERVICE]
    for role in (roles.SERVICE_ROLE, roles.ADMIN_ROLE):
        wanted = {key: value for key, value in role.items() if key not in ("name", "description")}
        assert told[role["name"]] == wanted


def test_another_hub_takes_it_and_gives_no_more(tmp_path: Path) -> None:
    public, proxy, port = free_ports(3)
    command = proxy_command(shipped("hub_config") / "proxy", print)
    (tmp_path / "config.py").write_text(
        f"{HUB}\nc.JupyterHub.bind_url = 'http://127.0.0.1:{public}'\n"
        f"c.JupyterHub.hub_port = {port}\nc.ConfigurableHTTPProxy.command = {command}\n"
        f"c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{proxy}'\n"
    )
    url = f"http://127.0.0.1:{public}"
    log = tmp_path / "hub.log"
    with log.open("wb") as sink:
        hub = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "--config=config.py"],
            cwd=tmp_path,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 60
        while not _answers(f"{url}/hub/health"):
            assert time.monotonic() < end, log.read_text()
            assert hub.poll() is None, log.read_text()
            time.sleep(0.2)
        with HubSession(url, "ada") as session:
            session.sign_in(PASSWORD)
            answer = session.http.post(
                "/hub/api/users/ada/tokens", headers={"X-XSRFToken": session.xsrf("/hub/")}, json={}
            ).raise_for_status()
        scopes = _api(url, answer.json()["token"], "GET", "user").json()["scopes"]
        assert {f"{scope}!user=ada" for scope in roles.CUSTOM_SCOPES} <= set(scopes)
        assert roles.USE_SERVICE in scopes
        assert not set(roles.CUSTOM_SCOPES) & set(scopes), "of everybody's things"
        service = "the-token-of-aiaas"
        assert _api(url, service, "GET", "users").json()[0]["name"] == "ada"
        assert _api(url, service, "POST", "users/ada/tokens").status_code == httpx.codes.FORBIDDEN
    finally:
        hub.terminate()
        hub.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _api(url: str, token: str, method: str, path: str) -> httpx.Response:
    headers = {"Authorization": f"token {token}"}
    return httpx.request(method, f"{url}/hub/api/{path}", headers=headers, trust_env=False)
