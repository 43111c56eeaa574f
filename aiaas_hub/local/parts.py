"""Proxy, hub and service of one machine as processes of their own, for an operator's supervisor.

`aiaas up` is one process that ends with its terminal, and ends all of it. Here each part is
started, restarted and stopped by itself, and what goes on in the others goes on: a restart of the
hub touches no notebook server, run or endpoint. `hub_config/systemd` has units for this.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from enum import StrEnum

from aiaas_hub.home import MARKER, Home
from aiaas_hub.local.environment import kept_environment
from aiaas_hub.local.hub_settings import HubSettings
from aiaas_hub.local.node_proxy import proxy_command
from aiaas_hub.local.platform import hold
from aiaas_hub.local.processes import marker_of
from aiaas_hub.local.reach import Reach
from aiaas_hub.local.shipped import shipped
from aiaas_hub.loopback import ADDRESS
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.spawner.sign_in import PREFIX as SIGN_IN

PREFIX = "/services/aiaas/"


class Part(StrEnum):
    PROXY = "proxy"
    HUB = "hub"
    SERVICE = "service"


def become(part: Part, home: Home, port: int, environ: Mapping[str, str]) -> None:
    """Replace this process by that part; returns only by raising.

    Its ports are the three after `port`, always: each part has to find the others again.
    `Conflict`: a platform or a hub runs on this home already.
    """
    settings = plan(home, port, environ, proxy_command(shipped("hub_config") / "proxy", _say))
    home.prepare()
    argv, own = command(part, home, settings)
    if part is Part.HUB:
        lock = hold(home)
        # For as long as the hub lives, which becomes of this very process.
        os.set_inheritable(lock.fileno(), True)
        settings.write(home)
    kept = kept_environment(environ)
    if part is not Part.HUB:
        # A provider's secret is the hub's alone.
        kept = {name: value for name, value in kept.items() if not name.startswith(SIGN_IN)}
    os.chdir(home.hub)
    os.execve(argv[0], argv, {**kept, **own})  # noqa: S606  # ours, from above


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def plan(home: Home, port: int, environ: Mapping[str, str], proxy: list[str]) -> HubSettings:
    """Raises `InvalidInput` for what parts cannot do."""
    reach = Reach.from_environment(environ)
    if reach.internal_tls:
        raise InvalidInput(
            "The hub makes the certificates of AIAAS_INTERNAL_TLS=1 for a proxy that it starts "
            "itself.",
            remedy="Leave it out, or use 'aiaas up'.",
        )
    if port > 65532:
        raise InvalidInput(f"There are no three ports after {port}.", remedy="Try PORT=8000.")
    return HubSettings(
        port=port,
        hub_port=port + 1,
        proxy_api_port=port + 2,
        service_port=port + 3,
        proxy_command=proxy,
        reach=reach,
        external=True,
        marker=marker_of(home.root),
    )


def command(part: Part, home: Home, settings: HubSettings) -> tuple[list[str], dict[str, str]]:
    """The command line of a part, and what its environment has of its own."""
    shared = {"AIAAS_HOME": str(home.root), MARKER: settings.marker, "PYTHONUNBUFFERED": "1"}
    hub = f"http://{ADDRESS}:{settings.hub_port}"
    if part is Part.PROXY:
        return [
            *settings.proxy_command,
            f"--ip={ADDRESS}",
            f"--port={settings.port}",
            f"--api-ip={ADDRESS}",
            f"--api-port={settings.proxy_api_port}",
            f"--default-target={hub}",
            f"--error-target={hub}/hub/error",
            *(["--host-routing"] if settings.reach.subdomains else []),
            *settings.reach.proxy_options(),
        ], {**shared, "CONFIGPROXY_AUTH_TOKEN": home.secret("proxy_auth_token")}
    if part is Part.HUB:
        config = shipped("hub_config") / "jupyterhub_config.py"
        return [sys.executable, "-m", "jupyterhub", f"--config={config}"], shared
    profiles = home.profiles if home.profiles.exists() else shipped("hub_config") / "profiles.yaml"
    origin = settings.reach.service_origin(settings.port)
    return [sys.executable, "-m", "aiaas_hub.app"], {
        **shared,
        "AIAAS_PROFILES": str(profiles),
        "JUPYTERHUB_SERVICE_NAME": "aiaas",
        "JUPYTERHUB_SERVICE_URL": f"http://{ADDRESS}:{settings.service_port}",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_API_URL": f"{hub}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_HOST": settings.url if origin else "",
        "JUPYTERHUB_CLIENT_ID": "service-aiaas",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{origin}{PREFIX}oauth_callback",
        "JUPYTERHUB_API_TOKEN": home.secret("service_token"),
    }
