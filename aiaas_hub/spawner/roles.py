"""What people, their servers and the service may do: the same on every hub."""

from __future__ import annotations

from typing import Any

from aiaas_hub.spawner.sign_in import ADMIN_GROUP

CUSTOM_SCOPES = {
    "custom:aiaas:read": {"description": "Read data, runs, models and endpoints"},
    "custom:aiaas:data:write": {"description": "Add datasets and versions of them"},
    "custom:aiaas:runs:write": {"description": "Start and cancel runs"},
    "custom:aiaas:models:write": {"description": "Register models"},
    "custom:aiaas:endpoints:write": {"description": "Publish and retire endpoints, make keys"},
}
"""A scope per verb; everybody holds each for their own things only."""

USE_SERVICE = "access:services!service=aiaas"
OWN_THINGS = [f"{scope}!user" for scope in CUSTOM_SCOPES]
SERVER_SCOPES = [*OWN_THINGS, USE_SERVICE, "access:servers!server"]
"""A notebook's token may do what its user may do there, and never more: no admin scope."""

ADMIN_ROLE: dict[str, Any] = {
    "name": "aiaas-admin",
    "description": "Everybody's data, runs, models and endpoints",
    "groups": [ADMIN_GROUP],
    "scopes": [*CUSTOM_SCOPES, USE_SERVICE],
}
SERVICE_ROLE: dict[str, Any] = {
    # Never `tokens`: it could mint a token of any user.
    "name": "aiaas-service",
    "services": ["aiaas"],
    "scopes": ["list:users", "read:users:name", "read:users:groups", "read:servers"],
}
CULLER_ROLE: dict[str, Any] = {
    "name": "idle-culler",
    "services": ["idle-culler"],
    "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
}


def grant(c: Any) -> None:
    """Set up a hub's scopes and roles, but for the culler's."""
    c.JupyterHub.custom_scopes = CUSTOM_SCOPES
    c.JupyterHub.extra_user_scopes = [*OWN_THINGS, USE_SERVICE]
    c.Spawner.server_token_scopes = SERVER_SCOPES
    c.JupyterHub.load_roles = [ADMIN_ROLE, SERVICE_ROLE]
