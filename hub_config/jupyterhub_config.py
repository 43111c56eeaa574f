"""JupyterHub on one machine, as `aiaas up` starts it.

Everybody's notebook server runs as the operator's own user: THERE IS NO ISOLATION BETWEEN USERS.
Hence everything here binds to loopback, and the spawner refuses to start servers otherwise.
"""

import os
import sys
from pathlib import Path

from jupyterhub.log import log_request

from aiaas_hub.adapters.hub_events import HubEvents
from aiaas_hub.home import MARKER, Home
from aiaas_hub.local.environment import kept_environment
from aiaas_hub.local.hub_settings import HubSettings
from aiaas_hub.local.shipped import shipped
from aiaas_hub.spawner import roles, sign_in
from aiaas_hub.spawner.culling import wants_culler
from aiaas_hub.spawner.local import LocalSpawner
from aiaas_hub.spawner.managed_service import restart_quickly
from aiaas_hub.spawner.quiet_proxy import QuietProxy
from aiaas_hub.spawner.recording import record_sign_in, record_sign_outs, recorded

home = Home.from_environment()
settings = HubSettings.read(home)
profiles = Path(__file__).with_name("profiles.yaml")
if home.profiles.exists():
    profiles = home.profiles
c = get_config()  # noqa: F821  # JupyterHub defines it

# Where things listen. Only the first port is for people.
settings.reach.configure(c, settings.port, home.hub / "internal-tls")
c.JupyterHub.hub_bind_url = f"{settings.reach.inside}://127.0.0.1:{settings.hub_port}"
# A server's own word on its activity counts, not the proxy's: see `culling`.
c.JupyterHub.proxy_class = QuietProxy
c.ConfigurableHTTPProxy.api_url = f"{settings.reach.inside}://127.0.0.1:{settings.proxy_api_port}"
c.ConfigurableHTTPProxy.command = settings.proxy_command
c.ConfigurableHTTPProxy.auth_token = home.secret("proxy_auth_token")
c.ConfigurableHTTPProxy.pid_file = str(home.hub / "proxy.pid")
c.JupyterHub.db_url = f"sqlite:///{home.hub / 'jupyterhub.sqlite'}"
home.secret("cookie_secret")
c.JupyterHub.cookie_secret_file = str(home.secret_file("cookie_secret"))

# Who may sign in: who an identity provider knows, if the environment names one (docs/operate.md).
# Else anybody who knows the password, under any name; `admin` with its own password.
with_provider = sign_in.configure(
    c, os.environ, settings.url, home.hub / "provider.json", home.secret("auth_state_key")
)
if not with_provider:
    c.JupyterHub.authenticator_class = "shared-password"
    c.SharedPasswordAuthenticator.user_password = home.secret("user_password", nbytes=8)
    c.SharedPasswordAuthenticator.admin_password = home.secret("admin_password")
    c.Authenticator.admin_users = {"admin"}
    c.Authenticator.allow_all = True
    # A provider tells its groups itself.
    c.JupyterHub.load_groups = {sign_in.ADMIN_GROUP: {"users": ["admin"]}}
# Servers and the status page prove that who began a sign-in ends it (RFC 7636).
c.JupyterHub.oauth_require_pkce = True

# Sign-ins and what is changed here go into the service's audit log.
events = HubEvents(home.hub_events)
c.Authenticator.post_auth_hook = record_sign_in(events)
record_sign_outs(events)
c.JupyterHub.tornado_settings = {"log_function": recorded(log_request, events)}

# What people, their servers and the service may do.
roles.grant(c)

# The service itself, restarted within seconds when it dies.
restart_quickly()
service = {
    "name": "aiaas",
    "url": f"http://127.0.0.1:{settings.service_port}",
    "api_token": home.secret("service_token"),
    "oauth_no_confirm": True,
    # The page may read what its visitor may: an administrator everybody's.
    "oauth_client_allowed_scopes": ["custom:aiaas:read"],
}
managed = {
    # The shell opens the log and becomes the service.
    "command": [
        *("/bin/sh", "-c", 'exec "$@" >>"$0" 2>&1', str(home.logs / "service.log")),
        *(sys.executable, "-m", "aiaas_hub.app"),
    ],
    "environment": {
        # The provider's secret is the hub's alone.
        **{
            name: value
            for name, value in kept_environment(os.environ).items()
            if not name.startswith(sign_in.PREFIX)
        },
        "AIAAS_HOME": str(home.root),
        "AIAAS_PROFILES": str(profiles),
        MARKER: settings.marker,
    },
    "cwd": str(home.root),
    "timeout": 60,
}
c.JupyterHub.services = [service if settings.external else service | managed]

# What stops idle servers, if any profile says after how long.
if wants_culler(profiles):
    culler = shipped("hub_config") / "idle_culler_config.py"
    certificates = c.JupyterHub.get("internal_certs_location")
    c.JupyterHub.services.append(
        {
            "name": "idle-culler",
            "command": [sys.executable, "-m", "jupyterhub_idle_culler", f"--config={culler}"],
            "environment": {
                "PATH": os.environ.get("PATH", os.defpath),
                "AIAAS_PROFILES": str(profiles),
                "AIAAS_CONFIG": str(home.config),
                **({"AIAAS_INTERNAL_CERTIFICATES": certificates} if certificates else {}),
                MARKER: settings.marker,
            },
        }
    )
    c.JupyterHub.load_roles.append(roles.CULLER_ROLE)

# Notebook servers.
c.JupyterHub.spawner_class = LocalSpawner
c.LocalSpawner.public_url_of_hub = settings.reach.bind_url(settings.port)
c.LocalSpawner.profiles_file = str(profiles)
c.LocalSpawner.shared = str(home.shared)
c.LocalSpawner.service_api_url = f"http://127.0.0.1:{settings.service_port}/services/aiaas/api/v1"
c.LocalSpawner.events_directory = str(home.hub_events)
c.LocalSpawner.notebooks = str(home.notebooks)
c.LocalSpawner.examples = str(shipped("examples"))
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = [
    *(["--allow-root"] if os.geteuid() == 0 else []),
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]
c.Spawner.default_url = "/lab"
c.Spawner.environment = {
    "AIAAS_URL": settings.reach.service_url(settings.port, settings.service_port),
    **settings.reach.notebook_environment(),
    MARKER: settings.marker,
    # Servers tell the hub of their activity every minute, not every five: see `culling`.
    "JUPYTERHUB_ACTIVITY_INTERVAL": "60",
    # `python` and `jupyter` in a terminal are those of the kernels.
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
}
c.Spawner.start_timeout = c.Spawner.http_timeout = 120
# Until the hub looks, whoever's server was killed is sent to a server that is not there. Looking at
# a process costs nothing.
c.Spawner.poll_interval = 5
c.LocalProcessSpawner.interrupt_timeout = c.LocalProcessSpawner.term_timeout = 5

# Stopping the platform stops its servers: nobody is left to look after them. Of parts that run by
# themselves (`aiaas part`) each goes on while another one restarts.
c.JupyterHub.cleanup_servers = not settings.external
c.JupyterHub.cleanup_proxy = not settings.external
c.ConfigurableHTTPProxy.should_start = not settings.external
# A proxy that was restarted knows no server until the hub looks.
c.JupyterHub.last_activity_interval = 15

# The operator's own settings, for the hub as for the service and the culler, win over these.
if home.config.exists():
    load_subconfig(str(home.config))  # noqa: F821  # JupyterHub defines it
