"""JupyterHub on a cluster: a pod per user's server, the proxy and the service beside the hub.

What differs between clusters stands in the settings file (`AIAAS_HUB_SETTINGS`); sign-in is set by
environment variables as on one machine (docs/operate.md).
"""

import os
import sys
from pathlib import Path

from jupyterhub.log import log_request

from aiaas_hub.adapters.hub_events import HubEvents
from aiaas_hub.spawner import roles, sign_in
from aiaas_hub.spawner.cluster_settings import read_settings
from aiaas_hub.spawner.culling import wants_culler
from aiaas_hub.spawner.on_kubernetes import ProfileSpawner
from aiaas_hub.spawner.quiet_proxy import QuietProxy
from aiaas_hub.spawner.recording import record_sign_in, record_sign_outs, recorded
from aiaas_hub.spawner.telling import Sending

settings = read_settings(os.environ)
c = get_config()  # noqa: F821  # JupyterHub defines it

# The proxy is a deployment of its own: it goes on while the hub restarts.
c.JupyterHub.bind_url = settings.bind_url
c.JupyterHub.hub_bind_url = settings.hub_bind_url
c.JupyterHub.hub_connect_url = settings.hub_connect_url
c.ConfigurableHTTPProxy.should_start = False
# A server's own word on its activity counts, not the proxy's: see `culling`.
c.JupyterHub.proxy_class = QuietProxy
c.ConfigurableHTTPProxy.api_url = settings.proxy_api_url
c.ConfigurableHTTPProxy.auth_token = settings.secret("proxy_auth_token")
c.JupyterHub.cleanup_proxy = False
# A proxy that was restarted knows no server until the hub looks.
c.JupyterHub.last_activity_interval = 15
c.JupyterHub.cleanup_servers = False
c.JupyterHub.db_url = settings.secret("database_url")
c.JupyterHub.cookie_secret = bytes.fromhex(settings.secret("cookie_secret"))

# Who may sign in.
with_provider = sign_in.configure(
    c,
    os.environ,
    settings.public_url,
    Path(os.environ.get("AIAAS_HOME", ".")) / "provider.json",
    settings.secret("auth_state_key"),
)
if not with_provider:
    if not settings.shared_password:
        sys.exit("Nobody could sign in: name a provider (AIAAS_SIGN_IN), or set shared_password.")
    c.JupyterHub.authenticator_class = "shared-password"
    c.SharedPasswordAuthenticator.user_password = settings.secret("user_password")
    c.SharedPasswordAuthenticator.admin_password = settings.secret("admin_password")
    c.Authenticator.admin_users = {"admin"}
    c.Authenticator.allow_all = True
    c.JupyterHub.load_groups = {sign_in.ADMIN_GROUP: {"users": ["admin"]}}
# Servers and the status page prove that who began a sign-in ends it (RFC 7636).
c.JupyterHub.oauth_require_pkce = True

# Sign-ins, servers and what is changed here go into the service's audit log.
(events_directory := Path(os.environ.get("AIAAS_HOME", ".")) / "hub-events").mkdir(exist_ok=True)
events = HubEvents(events_directory)
c.Authenticator.post_auth_hook = record_sign_in(events)
record_sign_outs(events)
c.JupyterHub.tornado_settings = {"log_function": recorded(log_request, events)}
Sending(events, f"{settings.service_url}/services/aiaas", settings.secret("service_token")).start()

# What people, their servers and the service may do.
roles.grant(c)

# The service runs by itself: a restart of the hub does not touch it.
c.JupyterHub.services = [
    {
        "name": "aiaas",
        "url": settings.service_url,
        "api_token": settings.secret("service_token"),
        "oauth_no_confirm": True,
        # The page may read what its visitor may: an administrator everybody's.
        "oauth_client_allowed_scopes": ["custom:aiaas:read"],
    }
]
if wants_culler(settings.profiles_file):
    culler = Path(__file__).parents[1] / "idle_culler_config.py"
    c.JupyterHub.services.append(
        {
            "name": "idle-culler",
            "command": [sys.executable, "-m", "jupyterhub_idle_culler", f"--config={culler}"],
            "environment": {
                "PATH": os.environ.get("PATH", os.defpath),
                "AIAAS_PROFILES": str(settings.profiles_file),
            },
        }
    )
    c.JupyterHub.load_roles.append(roles.CULLER_ROLE)

# Notebook servers.
c.JupyterHub.spawner_class = ProfileSpawner
c.ProfileSpawner.profiles_file = str(settings.profiles_file)
c.ProfileSpawner.events_directory = str(events_directory)
c.ProfileSpawner.service_api_url = f"{settings.service_url}/services/aiaas/api/v1"
c.ProfileSpawner.node_patience_seconds = settings.node_patience_seconds
c.KubeSpawner.namespace = settings.namespace
c.KubeSpawner.image = settings.image
c.KubeSpawner.image_pull_secrets = list(settings.image_pull_secrets)
c.KubeSpawner.storage_class = settings.storage_class
c.KubeSpawner.storage_access_modes = ["ReadWriteOnce"]
# The network policies name these labels.
c.KubeSpawner.common_labels = {"app.kubernetes.io/part-of": "aiaas-hub"}
c.KubeSpawner.component_label = "server"
# A server cannot become more than its user: no root, no capability, no token of the cluster.
c.KubeSpawner.uid = c.KubeSpawner.gid = c.KubeSpawner.fs_gid = 1000
c.KubeSpawner.privileged = c.KubeSpawner.allow_privilege_escalation = False
c.KubeSpawner.container_security_context = {
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
c.KubeSpawner.automount_service_account_token = False
c.KubeSpawner.enable_user_namespaces = False
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
c.Spawner.args = ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
c.Spawner.default_url = "/lab"
c.Spawner.environment = {
    "AIAAS_URL": f"{settings.service_url}/services/aiaas",
    # Servers tell the hub of their activity every minute, not every five: see `culling`.
    "JUPYTERHUB_ACTIVITY_INTERVAL": "60",
}
c.Spawner.start_timeout = settings.start_seconds
c.Spawner.http_timeout = 120
c.Spawner.poll_interval = 10
# An image or a quota that refuses everybody must not end the hub.
c.Spawner.consecutive_failure_limit = 0
