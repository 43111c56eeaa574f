"""The hub's configuration for clusters, read as JupyterHub reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from aiaas_hub.local.shipped import shipped
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.spawner.cluster_settings import VARIABLE
from aiaas_hub.spawner.on_kubernetes import ProfileSpawner

SECRETS = (
    "database_url",
    "cookie_secret",
    "proxy_auth_token",
    "auth_state_key",
    "service_token",
    "user_password",
    "admin_password",
)
PROFILE = "{slug: a, name: A, description: d, cpus: 1, memory: 1G, default: true, idle_limit: 60m}"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SECRETS:
        path = tmp_path / "secrets" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("ab" * 32)
    (tmp_path / "profiles.yaml").write_text(f"profiles: [{PROFILE}]")
    file = tmp_path / "hub.yaml"
    monkeypatch.setenv(VARIABLE, str(file))
    monkeypatch.setenv("AIAAS_HOME", str(tmp_path))
    monkeypatch.delenv("AIAAS_SIGN_IN", raising=False)
    write(file)
    return file


def write(file: Path, **more: object) -> None:
    values = {
        "public_url": "https://hub.example",
        "namespace": "users",
        "image": "i:1",
        "profiles_file": str(file.with_name("profiles.yaml")),
        "secrets": str(file.with_name("secrets")),
        "shared_password": True,
        **more,
    }
    file.write_text(yaml.safe_dump(values))


def load() -> Config:
    directory = str(shipped("hub_config") / "kubernetes")
    return PyFileConfigLoader("jupyterhub_config.py", path=directory).load_config()


def test_servers_are_pods_without_rights(settings: Path) -> None:
    config = load()
    assert config.JupyterHub.spawner_class is ProfileSpawner
    spawner = config.KubeSpawner
    assert (spawner.namespace, spawner.image) == ("users", "i:1")
    assert spawner.automount_service_account_token is False
    assert spawner.allow_privilege_escalation is False
    assert spawner.container_security_context["capabilities"] == {"drop": ["ALL"]}
    for scope in config.Spawner.server_token_scopes:
        assert scope.endswith(("!user", "!server", "!service=aiaas")), scope
    # Hub and proxy come and go without the servers.
    assert config.JupyterHub.cleanup_servers is False
    assert [role["name"] for role in config.JupyterHub.load_roles] == [
        "aiaas-admin",
        "aiaas-service",
        "idle-culler",
    ]


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_without_a_secret_or_with_an_empty_one(settings: Path, name: str) -> None:
    path = settings.with_name("secrets") / name
    path.write_text("\n")
    with pytest.raises(InvalidInput, match=f"{name} is empty"):
        load()
    path.unlink()
    with pytest.raises(InvalidInput, match=f"{name} cannot be read") as refused:
        load()
    assert refused.value.remedy


def test_nobody_signs_in_by_mistake(settings: Path) -> None:
    write(settings, shared_password=False)
    with pytest.raises(SystemExit, match="Nobody could sign in"):
        load()


def test_an_unknown_setting_is_refused(settings: Path) -> None:
    write(settings, storage_clas="fast")
    with pytest.raises(InvalidInput, match="storage_clas"):
        load()
