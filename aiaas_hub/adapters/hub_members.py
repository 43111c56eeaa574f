"""What the hub says of its users: their groups, and which of them have servers."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import httpx

from aiaas_hub.schemas.errors import Unavailable

_PAGE = 200


@dataclass
class HubMembers:
    groups: dict[str, list[str]] = field(default_factory=dict)
    """By user."""
    servers: list[str] = field(default_factory=list)
    """Those that run: `user`, and `user/name` for named ones."""


def ask_hub(api_url: str, token: str, tls: ssl.SSLContext | bool = True) -> HubMembers:
    """Of all users. Raises `Unavailable` while the hub does not answer: what it last said then
    goes on to count."""
    found = HubMembers()
    offset: int | None = 0
    # `trust_env` off: an HTTP proxy of the environment does not lead to our hub.
    with httpx.Client(timeout=10, trust_env=False, verify=tls) as client:
        while offset is not None:
            try:
                answer = client.get(
                    f"{api_url}/users",
                    params={"offset": offset, "limit": _PAGE},
                    headers={
                        "Authorization": f"Bearer {token}",
                        "Accept": "application/jupyterhub-pagination+json",
                    },
                ).raise_for_status()
                page = answer.json()
            except (httpx.HTTPError, ValueError) as error:
                raise Unavailable("The hub cannot be asked for its users' groups.") from error
            for user in page["items"]:
                found.groups[user["name"]] = list(user.get("groups", ()))
                for name, server in (user.get("servers") or {}).items():
                    if not server.get("stopped"):
                        found.servers.append(f"{user['name']}/{name}" if name else user["name"])
            following = page["_pagination"]["next"]
            offset = None if following is None else int(following["offset"])
    return found
