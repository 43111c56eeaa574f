"""The `Gateway` port on Envoy pods of a Kubernetes cluster.

Their Deployment is the administrator's (hub_config/kubernetes/options/serving); what they read are
two ConfigMaps that the service writes, and mounts follow: `gateway-bootstrap`, which knows no
endpoint, and `gateway-routes`, compressed (`route_files.py`). A kubelet looks at its mounts when a
pod changes, else about once a minute
(https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically):
so the pods are marked with the version that they are to use.
"""

from __future__ import annotations

import logging
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from aiaas_hub.adapters.kubernetes import client
from aiaas_hub.adapters.kubernetes.client import Cluster, Object
from aiaas_hub.adapters.kubernetes.waiting import is_ready, pod_reasons
from aiaas_hub.adapters.route_files import packed, unpacked
from aiaas_hub.domain.ports import Route, VersionTraffic
from aiaas_hub.gateway import statistics
from aiaas_hub.gateway.bootstrap import bootstrap
from aiaas_hub.gateway.clusters import pods_configuration
from aiaas_hub.gateway.files import to_text
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.gateway.mirrors import mirror_configuration, shadowed
from aiaas_hub.gateway.names import MIRRORS, ROUTES_FILE, VIRTUAL_HOST
from aiaas_hub.gateway.names import ROUTES as ROUTES_NAME
from aiaas_hub.gateway.routes import route_configuration
from aiaas_hub.schemas.errors import TooLarge, Unavailable
from aiaas_hub.schemas.platform import EngineHealth, EngineState

log = logging.getLogger(__name__)

NAME = "envoy"
PORT, OBSERVED_PORT = 8080, 8081
BOOTSTRAP, ROUTES = "gateway-bootstrap", "gateway-routes"
UNPACKED = Path("/run/envoy/routes")
ADMIN, MIRROR = Path("/run/envoy/admin"), Path("/run/envoy/mirror")
TRANSLATOR, ONWARD = Path("/run/translation/translator"), Path("/run/translation/onward")
"""As the Deployment has the translator started: where it listens, and where it asks."""
VERSION_ANNOTATION = "aiaas.hub/routes"
SECRET_VARIABLE = "AIAAS_INFERENCE"  # noqa: S105 - the name of a variable of the pods
_SELECTOR = "app.kubernetes.io/part-of=aiaas-hub,app.kubernetes.io/component=gateway"
_APPLY_SECONDS = 30.0
MAX_BYTES = 1_000_000
"""Of a ConfigMap: the API server takes a little more (1 MiB)."""


@dataclass(frozen=True)
class GatewayPods:
    """What an operator says of the gateway."""

    namespace: str
    url: str
    """Its address as callers and notebooks reach it."""
    triton_port: int
    triton_header: str
    """Carries what `SECRET_VARIABLE` holds in the gateway's pods."""


class EnvoyKubernetes:
    """Thread-safe."""

    # Its pods reach no socket of the service's.
    wakes = False

    def __init__(
        self,
        cluster: Cluster,
        pods: GatewayPods,
        keys: GatewayKeys,
        host: Callable[[str], str],
        *,
        parallel: int = 128,
    ) -> None:
        """`host`: owner → the name of the Triton pods of their models; `parallel`: how many
        requests one owner's endpoints may have in them, by each pod of the gateway."""
        self._cluster = cluster
        self._pods = pods
        self._keys = keys
        self._host = host
        self._parallel = parallel
        self._lock = threading.Lock()
        self._written: dict[str, str] = {}
        self._owners: set[str] = set()
        self._shadowed: set[str] = set()
        self._http = httpx.Client(timeout=httpx.Timeout(5, connect=2), trust_env=False)
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="gateway")

    @property
    def url(self) -> str:
        return self._pods.url.rstrip("/")

    def start(self) -> None:
        """Write what pods of the gateway begin with; they wait until it is there."""
        text = to_text(
            bootstrap(
                address="0.0.0.0",  # noqa: S104 - of its pod
                port=PORT,
                admin=ADMIN,
                clusters=UNPACKED / "clusters.json",
                routes=UNPACKED / ROUTES_FILE,
                mirror=MIRROR,
                mirrors=UNPACKED / "mirrors.json",
                observed_port=OBSERVED_PORT,
                onward=ONWARD,
                headers=self._secret(),
                jwks=self._keys.jwks(),
            )
        )
        nothing = {
            "clusters.json": self._clusters(set(), set()),
            "mirrors.json": mirror_configuration([]),
            ROUTES_FILE: self._routes([]),
        }
        with self._lock:
            former = self._read()
            files = {name: former.get(name, to_text(file)) for name, file in nothing.items()}
            self._write_routes(files)
            # After what it names, without which a pod would not start.
            self._write(BOOTSTRAP, {"data": {"bootstrap.json": text}})

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._http.close()
        self._cluster.close()

    def health(self) -> EngineHealth:
        try:
            pods = self._look()
        except Unavailable as error:
            return EngineHealth(name=NAME, state=EngineState.UNAVAILABLE, reason=error.message)
        if any(is_ready(pod) for pod in pods):
            return EngineHealth(name=NAME, state=EngineState.READY)
        reason = next(
            iter(pod_reasons(pods)),
            f"0 of {len(pods)} pods are ready"
            if pods
            else "there is no pod of the gateway: an administrator applies options/serving",
        )
        return EngineHealth(
            name=NAME,
            state=EngineState.STARTING if pods else EngineState.UNAVAILABLE,
            reason=f"{reason[0].upper()}{reason[1:]}.",
        )

    def apply(self, routes: Sequence[Route]) -> None:
        """See `Gateway.apply`. Returns once every ready pod uses them; raises `Unavailable` where
        one does not: they are written, and it will."""
        owners, copied = {route.owner for route in routes}, shadowed(routes)
        document, mirrors = self._routes(routes), mirror_configuration(routes)
        with self._lock:
            # Before the routes that lead there; those of owners who go stay until the routes went.
            clusters = self._clusters(owners | self._owners, copied | self._shadowed)
            former = self._mounted()
            now = {**former, "clusters.json": to_text(clusters), "mirrors.json": to_text(mirrors)}
            if ROUTES_FILE in former and now != former:
                self._write_routes(now)
                self._wait_for("cluster_manager.cds.version_text", clusters["version_info"])
                self._wait_for(f"rds.{MIRRORS}.version_text", mirrors["version_info"])
            self._write_routes({**now, ROUTES_FILE: to_text(document)})
            self._wait_for(f"rds.{ROUTES_NAME}.version_text", document["version_info"])
            self._owners, self._shadowed = owners, copied

    def traffic(self) -> dict[tuple[str, int], VersionTraffic]:
        """See `Gateway.traffic`: of the pods that are ready now, together."""
        wanted = quote(f"^vhost\\.{VIRTUAL_HOST}\\.route\\.", safe="")
        target = f"/stats?format=json&histogram_buckets=cumulative&filter={wanted}"
        try:
            return statistics.added(map(statistics.read, self._ask_all(target)))
        except ValueError as error:
            raise Unavailable("Envoy is not up.", remedy="Try again in a moment.") from error

    def metrics(self) -> bytes:
        """See `Gateway.metrics`."""
        wanted = quote(r"^(vhost|cluster\.triton-.*upstream_(rq|cx)|http\.gateway|server)", safe="")
        return statistics.added_text(self._ask_all(f"/stats/prometheus?filter={wanted}"))

    def _clusters(self, owners: set[str], copied: set[str]) -> dict[str, Any]:
        return pods_configuration(
            {owner: self._host(owner) for owner in owners},
            self._pods.triton_port,
            self._parallel,
            translator=TRANSLATOR,
            mirror=MIRROR,
            shadowed=copied,
            secret=self._pods.triton_header,
        )

    def _routes(self, routes: Sequence[Route]) -> dict[str, Any]:
        return route_configuration(routes, self._secret())

    def _secret(self) -> dict[str, str]:
        return {self._pods.triton_header: f"%ENVIRONMENT({SECRET_VARIABLE})%"}

    def _mounted(self) -> dict[str, str]:
        """Of what is packed: what a pod has that follows it."""
        if not self._written:
            found = self._cluster.get(client.CONFIG_MAPS, ROUTES) or {}
            data = found.get("binaryData") or {}
            try:
                self._written = unpacked({name: b64decode(text) for name, text in data.items()})
            except ValueError as error:
                log.warning("The routes in %s are written anew: %s", ROUTES, error)
        return self._written

    def _read(self) -> dict[str, str]:
        """The same, or what a release wrote that did not pack them: pods begin with it."""
        found = self._mounted()
        if not found:
            there = self._cluster.get(client.CONFIG_MAPS, ROUTES) or {}
            found = dict(there.get("data") or {})
        return found

    def _write_routes(self, files: dict[str, str]) -> None:
        if files == self._mounted():
            return
        content = packed(files)
        if sum(map(len, content.values())) > MAX_BYTES:
            raise TooLarge(
                "The gateway's routes are more than a ConfigMap can hold.",
                remedy="Retire endpoints that nobody calls; the former routes hold.",
            )
        encoded = {name: b64encode(one).decode() for name, one in content.items()}
        self._write(ROUTES, {"binaryData": encoded})
        self._written = files

    def _write(self, name: str, content: dict[str, dict[str, str]]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self._pods.namespace,
                "labels": {
                    "app.kubernetes.io/managed-by": "aiaas-hub",
                    "app.kubernetes.io/part-of": "aiaas-hub",
                    "app.kubernetes.io/component": "gateway",
                },
            },
            **content,
        }
        if self._cluster.replace(client.CONFIG_MAPS, name, body) is None:
            self._cluster.create(client.CONFIG_MAPS, body)

    def _wait_for(self, statistic: str, version: str) -> None:
        """Until each ready pod says that it uses this version of a file."""
        deadline = time.monotonic() + _APPLY_SECONDS
        marked: set[str] = set()
        pause = 0.05
        while True:
            pods = self._ready()
            late = [
                pod
                for pod, found in zip(
                    pods,
                    self._pool.map(lambda one: self._version(one, statistic), pods),
                    strict=True,
                )
                if found != version
            ]
            if not late:
                return
            for pod in late:
                name = pod["metadata"]["name"]
                if name not in marked:
                    self._cluster.annotate(client.PODS, name, {VERSION_ANNOTATION: version})
                    marked.add(name)
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"The gateway's pod {late[0]['metadata']['name']} has not taken the new routes "
                    "yet; it uses the former ones.",
                    remedy="It does within a minute or two; after an upgrade of the platform: "
                    "kubectl rollout restart deployment/gateway. Else its log says why.",
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.5)

    def _version(self, pod: Object, statistic: str) -> str:
        target = f"/stats?type=TextReadouts&filter={statistic}"
        try:
            return self._ask(pod, target).decode().partition(": ")[2].strip().strip('"')
        except Unavailable:
            return ""

    def _ask_all(self, target: str) -> list[bytes]:
        return list(self._pool.map(lambda pod: self._ask(pod, target), self._ready()))

    def _ask(self, pod: Object, target: str) -> bytes:
        try:
            answer = self._http.get(f"http://{pod['status']['podIP']}:{OBSERVED_PORT}{target}")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable("Envoy is not up.", remedy="Try again in a moment.") from error
        return answer.content

    def _ready(self) -> list[Object]:
        found = [pod for pod in self._look() if is_ready(pod)]
        if not found:
            raise Unavailable("Envoy is not up.", remedy="Try again in a moment.")
        return found

    def _look(self) -> list[Object]:
        found = self._cluster.items(client.PODS, labelSelector=_SELECTOR)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
