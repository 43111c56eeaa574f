"""What `hub_config/kubernetes/jupyterhub_config.py` is told of its cluster: one YAML file, named by
`AIAAS_HUB_SETTINGS`, and a directory of secrets, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from aiaas_hub.adapters.yaml_file import read_yaml
from aiaas_hub.schemas.errors import InvalidInput

VARIABLE = "AIAAS_HUB_SETTINGS"


class ClusterSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    public_url: str
    """Where people reach the platform; sign-in comes back here."""
    bind_url: str = "http://0.0.0.0:8000"
    """Of the proxy, which its own manifest starts; its path is the base of every address."""
    hub_bind_url: str = "http://0.0.0.0:8081"
    hub_connect_url: str = "http://hub.aiaas:8081"
    """Of the hub, for the proxy and for users' servers."""
    proxy_api_url: str = "http://proxy-api.aiaas:8001"
    service_url: str = "http://service.aiaas:8080"
    """Of the service, for the proxy and for users' notebooks: they reach nothing outside."""
    namespace: str
    """Where users' servers run."""
    image: str
    """Of servers whose profile names none."""
    image_pull_secrets: tuple[str, ...] = ()
    storage_class: str | None = None
    """Of homes; None: the cluster's default."""
    node_patience_seconds: int = 60
    start_seconds: int = 300
    profiles_file: Path = Path("/etc/aiaas/profiles.yaml")
    secrets: Path = Path("/etc/aiaas-secrets")
    shared_password: bool = False
    """Anybody who knows `user_password` may sign in, under any name: for a trial."""

    def secret(self, name: str) -> str:
        """Raises `InvalidInput` where there is none: nothing starts with an empty secret."""
        path = self.secrets / name
        try:
            found = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(
                f"The secret {path} cannot be read: {error.strerror}.",
                remedy="Add it to the Secret that the hub mounts (docs/kubernetes.md lists them).",
            ) from error
        if not found:
            raise InvalidInput(f"The secret {path} is empty.", remedy="Generate one.")
        return found


def read_settings(environ: Mapping[str, str]) -> ClusterSettings:
    path = environ.get(VARIABLE, "/etc/aiaas/hub.yaml")
    return read_yaml(Path(path), ClusterSettings, "hub's settings")
