"""What `aiaas up` decided and the hub's configuration file reads: ports and commands.

A file of the home, not environment variables: users' servers inherit from the hub's environment,
and an operator who looks for the ports finds them in one place.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from aiaas_hub.home import Home, write_private
from aiaas_hub.local.reach import Reach


class HubSettings(BaseModel):
    port: int
    """Of the address people use; the proxy listens there."""
    hub_port: int
    proxy_api_port: int
    service_port: int
    proxy_command: list[str]
    reach: Reach = Reach()
    external: bool = False
    """Proxy and service are processes of their own: a hub neither starts nor ends them."""
    marker: str
    """Environment variable value that marks every process of this platform."""

    @property
    def url(self) -> str:
        return self.reach.url(self.port)

    @staticmethod
    def path(home: Home) -> Path:
        return home.hub / "settings.json"

    def write(self, home: Home) -> None:
        write_private(self.path(home), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, home: Home) -> HubSettings:
        return cls.model_validate_json(cls.path(home).read_text(encoding="utf-8"))
