"""How people reach a local platform: by which name, with which certificate, on subdomains or not.

By environment variables, each a line of docs/operate.md. All of it still listens on 127.0.0.1.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from aiaas_hub.loopback import ADDRESS
from aiaas_hub.schemas.errors import InvalidInput

_CERTIFICATE, _KEY = "AIAAS_TLS_CERTIFICATE_FILE", "AIAAS_TLS_KEY_FILE"
_NAME, _SUBDOMAINS, _INTERNAL = "AIAAS_HOST_NAME", "AIAAS_SUBDOMAINS", "AIAAS_INTERNAL_TLS"
AUTHORITY = "AIAAS_CA_FILE"
"""What clients trust, in place of the well-known authorities; notebooks get it too."""
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class Reach(BaseModel):
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    name: str = ADDRESS
    """In the address that people type."""
    subdomains: bool = False
    """Each user's server, and the service, has a host of its own below `name`."""
    internal_tls: bool = False
    """Hub, proxy and notebook servers prove to each other who they are."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Reach:
        """Raises `InvalidInput` for what cannot work."""
        files = {
            variable: Path(environ[variable]).expanduser().absolute()
            for variable in (_CERTIFICATE, _KEY, AUTHORITY)
            if environ.get(variable)
        }
        found = cls(
            certificate=files.get(_CERTIFICATE),
            key=files.get(_KEY),
            authority=files.get(AUTHORITY),
            name=(environ.get(_NAME) or ADDRESS).lower(),
            subdomains=environ.get(_SUBDOMAINS) == "1",
            internal_tls=environ.get(_INTERNAL) == "1",
        )
        found.check()
        return found

    def check(self) -> None:
        """Raises `InvalidInput`: better here than as a line in a log after the start."""
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput(
                f"{_CERTIFICATE} and {_KEY} belong together.", remedy="Set both or none."
            )
        if not _HOST.fullmatch(self.name):
            raise InvalidInput(
                f"{_NAME}={self.name!r} is no name of a host.", remedy="Try hub.example.org."
            )
        if self.subdomains and re.fullmatch(r"[0-9.]+", self.name):
            raise InvalidInput(
                "Subdomains need a name, and 127.0.0.1 is a number.",
                remedy=f"Set {_NAME}, such as hub.localhost.",
            )
        try:
            if self.certificate is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate, self.key)
            if self.authority is not None:
                ssl.create_default_context(cafile=self.authority)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"The files of {_CERTIFICATE}, {_KEY} and {AUTHORITY} cannot be used: "
                f"{error.strerror or error}.",
                remedy="They are PEM files; the certificate's holds those between it and its "
                "authority too, and the key has no password.",
            ) from error

    def url(self, port: int) -> str:
        """What people type."""
        return f"{self._scheme}://{self.name}:{port}"

    def bind_url(self, port: int) -> str:
        """Where the proxy listens for it."""
        return f"{self._scheme}://{ADDRESS}:{port}"

    @property
    def _scheme(self) -> str:
        return "http" if self.certificate is None else "https"

    @property
    def inside(self) -> str:
        """The scheme between hub and proxy."""
        return "https" if self.internal_tls else "http"

    def configure(self, c: Any, port: int, certificates: Path) -> None:
        """JupyterHub's settings; `certificates` is where it keeps those that it makes itself."""
        c.JupyterHub.bind_url = self.bind_url(port)
        c.JupyterHub.public_url = f"{self.url(port)}/"
        if self.certificate is not None:
            c.JupyterHub.ssl_cert = str(self.certificate)
            c.JupyterHub.ssl_key = str(self.key)
        if self.subdomains:
            c.JupyterHub.subdomain_host = self.url(port)
        if self.internal_tls:
            c.JupyterHub.internal_ssl = True
            c.JupyterHub.internal_certs_location = str(certificates)

    def service_url(self, port: int, service_port: int) -> str:
        """The service as notebooks reach it. A host below another's is nobody's to resolve on a
        machine that has no such name: there they ask the service itself."""
        if self.subdomains:
            return f"http://{ADDRESS}:{service_port}/services/aiaas"
        return f"{self.url(port)}/services/aiaas"

    def service_origin(self, port: int) -> str:
        """Of the service's own host, as JupyterHub names it; empty where it has none."""
        return f"{self._scheme}://{self.service_host}:{port}" if self.subdomains else ""

    def question(self, port: int) -> dict[str, Any]:
        """How this machine asks the service by way of the proxy (httpx's arguments, but for the
        address and `verify`): it need not know the name that browsers use."""
        return {
            "headers": {"Host": f"{self.service_host}:{port}"},
            "extensions": {"sni_hostname": self.service_host},
        }

    @property
    def service_host(self) -> str:
        return f"aiaas--service.{self.name}" if self.subdomains else self.name

    def proxy_options(self) -> list[str]:
        """Of a proxy that the hub does not start itself."""
        if self.certificate is None:
            return []
        return [f"--ssl-cert={self.certificate}", f"--ssl-key={self.key}"]

    def notebook_environment(self) -> dict[str, str]:
        return {} if self.authority is None else {AUTHORITY: str(self.authority)}

    def trusted(self) -> ssl.SSLContext | bool:
        """For our own questions to the address that people type (httpx's `verify`)."""
        if self.authority is None:
            return True
        return ssl.create_default_context(cafile=self.authority)
