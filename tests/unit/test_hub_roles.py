"""What the hub's configuration gives to whom: read as JupyterHub reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from aiaas_hub.home import Home
from aiaas_hub.local.hub_settings import HubSettings
from aiaas_hub.local.shipped import shipped

ADMINISTRATIVE = ("admin", "tokens", "users", "groups", "servers", "proxy", "shutdown", "roles")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    home = Home(tmp_path / "home")
    home.prepare()
    HubSettings(
        port=1, hub_port=2, proxy_api_port=3, service_port=4, proxy_command=["x"], marker="m"
    ).write(home)
    home.profiles.write_text(
        "profiles: [{slug: a, name: A, description: d, cpus: 1, memory: 1G, default: true, "
        "idle_limit: 60m}]"
    )
    monkeypatch.setenv("AIAAS_HOME", str(home.root))
    monkeypatch.delenv("AIAAS_SIGN_IN", raising=False)
    monkeypatch.setenv("AIAAS_SIGN_IN_CLIENT_SECRET", "canary")
    # What it changes in JupyterHub itself is not this process's business.
    monkeypatch.setattr("aiaas_hub.spawner.managed_service.restart_quickly", lambda: None)
    monkeypatch.setattr("aiaas_hub.spawner.recording.record_sign_outs", lambda _: None)
    loader = PyFileConfigLoader("jupyterhub_config.py", path=str(shipped("hub_config")))
    return loader.load_config()


def roles(config: Config) -> dict[str, dict[str, Any]]:
    return {role["name"]: role for role in config.JupyterHub.load_roles}


def test_services_may_what_they_need(config: Config) -> None:
    found = roles(config)
    assert found["aiaas-service"]["scopes"] == [
        "list:users",
        "read:users:name",
        "read:users:groups",
        "read:servers",
    ]
    assert found["idle-culler"]["scopes"] == [
        "list:users",
        "read:users:activity",
        "read:servers",
        "delete:servers",
    ]
    for role in found.values():
        assert "tokens" not in role["scopes"], role["name"]


def test_a_notebooks_token_holds_no_administrators_scope(config: Config) -> None:
    for scopes in (config.Spawner.server_token_scopes, config.JupyterHub.extra_user_scopes):
        for scope in scopes:
            assert scope.endswith(("!user", "!server", "!service=aiaas")), scope
            assert not scope.startswith(ADMINISTRATIVE), scope


def test_the_page_reads_and_nothing_more(config: Config) -> None:
    service = config.JupyterHub.services[0]
    assert service["oauth_client_allowed_scopes"] == ["custom:aiaas:read"]
    assert config.JupyterHub.oauth_require_pkce is True


def test_only_administrators_read_everybodys(config: Config) -> None:
    [role] = [one for one in roles(config).values() if "custom:aiaas:read" in one["scopes"]]
    assert role["groups"] == ["aiaas-admins"]
    assert config.JupyterHub.load_groups == {"aiaas-admins": {"users": ["admin"]}}


def test_the_providers_secret_stays_with_the_hub(config: Config) -> None:
    for service in config.JupyterHub.services:
        assert "canary" not in service["environment"].values()
    assert "canary" not in config.Spawner.environment.values()
