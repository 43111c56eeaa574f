"""The Kubernetes API as plain objects, through the official client.

Every call raises `Unavailable` while the API server cannot be asked or does not let the service do
what it is there for: whatever asked then waits, and says why.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from aiaas_hub.schemas.errors import InternalError, InvalidInput, Unavailable

Object = dict[str, Any]

_TIMEOUT = (3, 20)
"""Seconds to connect, and between bytes."""
_LATER = "What waits for it goes on as soon as it does."


@dataclass(frozen=True)
class Kind:
    prefix: str
    plural: str


RAYJOBS = Kind("/apis/ray.io/v1", "rayjobs")
SECRETS = Kind("/api/v1", "secrets")
CONFIG_MAPS = Kind("/api/v1", "configmaps")
PODS = Kind("/api/v1", "pods")
EVENTS = Kind("/api/v1", "events")
DEPLOYMENTS = Kind("/apis/apps/v1", "deployments")
INFERENCE_SERVICES = Kind("/apis/serving.kserve.io/v1beta1", "inferenceservices")
SERVICES = Kind("/api/v1", "services")
WORKLOADS = Kind("/apis/kueue.x-k8s.io/v1beta1", "workloads")


class Cluster:
    """Objects of one namespace. Safe to use from several threads."""

    def __init__(self, namespace: str, kubeconfig: Path | None = None) -> None:
        """`kubeconfig`: None for the service account of the pod that this runs in."""
        settings = client.Configuration()
        try:
            if kubeconfig is None:
                _load(config.load_incluster_config, settings)
            else:
                _load(config.load_kube_config, settings, str(kubeconfig))
        except ConfigException as error:
            raise InvalidInput(
                f"The Kubernetes cluster is not known: {error}.",
                remedy="Run the service in a pod with a service account, or set "
                "c.ServiceConfig.kubernetes_kubeconfig in aiaas_config.py.",
            ) from error
        # Whoever calls comes again in a moment.
        settings.retries = urllib3.Retry(0)
        self._namespace = namespace
        self._api = client.ApiClient(settings)

    def close(self) -> None:
        self._api.close()  # type: ignore[no-untyped-call]

    def create(self, kind: Kind, body: Object) -> Object | None:
        """The object made; None if one of its name exists."""
        try:
            # Servers from 1.25 on then refuse what they do not know instead of dropping it.
            return self._call("POST", kind, query={"fieldValidation": "Strict"}, body=body)
        except ApiException as error:
            if error.status == 409:
                return None
            raise _explained(error) from error

    def get(self, kind: Kind, name: str) -> Object | None:
        """None if there is no such object."""
        try:
            return self._call("GET", kind, name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise _explained(error) from error

    def answers(self, kind: Kind) -> bool:
        """Whether the cluster knows the kind and lets the service list it."""
        try:
            self._call("GET", kind, query={"limit": "1"})
        except ApiException as error:
            if error.status == 404:
                return False
            raise _explained(error) from error
        return True

    def items(self, kind: Kind, **selectors: str) -> list[Object]:
        """Nothing where the cluster does not know the kind."""
        try:
            return list(self._call("GET", kind, query=selectors)["items"])
        except ApiException as error:
            if error.status == 404:
                return []
            raise _explained(error) from error

    def replace(self, kind: Kind, name: str, body: Object) -> Object | None:
        """The object as it is then; None if there is none, or it is another one than `body` was
        made from, by its resourceVersion."""
        try:
            return self._call("PUT", kind, name, query={"fieldValidation": "Strict"}, body=body)
        except ApiException as error:
            if error.status in (404, 409):
                return None
            raise _explained(error) from error

    def annotate(self, kind: Kind, name: str, annotations: Mapping[str, str]) -> None:
        """Nothing happens if there is no such object."""
        body = {"metadata": {"annotations": dict(annotations)}}
        try:
            self._call("PATCH", kind, name, body=body)
        except ApiException as error:
            if error.status != 404:
                raise _explained(error) from error

    def delete(self, kind: Kind, name: str) -> None:
        """Nothing happens if there is no such object. What it owns goes after it."""
        try:
            self._call("DELETE", kind, name, body={"propagationPolicy": "Background"})
        except ApiException as error:
            if error.status != 404:
                raise _explained(error) from error

    def _call(
        self,
        method: str,
        kind: Kind,
        name: str = "",
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
    ) -> Object:
        path = f"{kind.prefix}/namespaces/{self._namespace}/{kind.plural}"
        headers = {"Accept": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        with _reached():
            response = self._api.call_api(
                *self._api.param_serialize(
                    method,
                    f"{path}/{name}" if name else path,
                    query_params=list((query or {}).items()),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                ),
                _request_timeout=_TIMEOUT,
            )
            data: bytes = response.read()  # type: ignore[no-untyped-call]
        if not 200 <= response.status < 300:
            raise ApiException.from_response(
                http_resp=response, body=data.decode(errors="replace"), data=None
            )
        found: Object = json.loads(data)
        return found


def _load(load: Callable[..., None], settings: client.Configuration, *arguments: str) -> None:
    load(*arguments, client_configuration=settings)


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable("The Kubernetes API server does not answer.", remedy=_LATER) from error


def _explained(error: ApiException) -> Exception:
    words = _words(error)
    if error.status == 403 and "exceeded quota" in words:
        return Unavailable(
            f"The namespace's quota is used up: {words}", remedy="It goes on when other pods end."
        )
    if error.status in (401, 403):
        return Unavailable(
            f"Kubernetes does not let the service do this: {words}",
            remedy="An administrator gives its account the role that is meant for it: see "
            "docs/kubernetes.md.",
        )
    if error.status >= 500 or error.status == 429:
        return Unavailable("The Kubernetes API server is in trouble.", remedy=_LATER)
    return InternalError(f"Kubernetes answered with status {error.status}: {words}")


def _words(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
