"""The Kubernetes API in plain objects: what a test writes and reads is what the server does."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

Object = dict[str, Any]
CORE = "/api/v1"
PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class Refused(Exception):
    """The API server's own words, with its status code."""

    def __init__(self, response: httpx.Response) -> None:
        self.code = response.status_code
        try:
            self.text = str(response.json()["message"])
        except (ValueError, KeyError, TypeError):
            self.text = response.text[:1000]
        super().__init__(f"{response.request.method} {response.request.url.path}: {self.text}")


class KubeApi:
    """One identity's view of an API server. Safe to share between threads."""

    def __init__(self, server: str, authority: Path, *, token: str = "", cert: str = "") -> None:
        context = ssl.create_default_context(cafile=str(authority))
        if cert:
            context.load_cert_chain(cert, cert.removesuffix(".crt") + ".key")
        self.server = server
        self.authority = authority
        self._client = httpx.Client(
            base_url=server,
            verify=context,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=30,
            trust_env=False,
            limits=httpx.Limits(max_connections=100),
        )

    @classmethod
    def of(cls, kubeconfig: Path) -> KubeApi:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        return cls(
            cluster["server"],
            Path(cluster["certificate-authority"]),
            cert=user["client-certificate"],
        )

    def token(self, namespace: str, account: str) -> str:
        """Of a service account, as its pods would have it."""
        found = self.get(f"{CORE}/namespaces/{namespace}/serviceaccounts/{account}")
        secret = found["secrets"][0]["name"]
        data = self.get(f"{CORE}/namespaces/{namespace}/secrets/{secret}")["data"]
        return base64.b64decode(data["token"]).decode()

    def as_account(self, namespace: str, account: str) -> KubeApi:
        """The same server as this service account sees it."""
        return KubeApi(self.server, self.authority, token=self.token(namespace, account))

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        response = self._client.request(method, path, **kwargs)
        if response.is_error:
            raise Refused(response)
        return response

    def code(self, method: str, path: str) -> int:
        """How the server answers a request that has next to nothing in it."""
        body = json.dumps({"metadata": {"name": "any"}}) if method in ("POST", "PATCH") else None
        kind = PATCHES["merge"] if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind}
        return self._client.request(method, path, content=body, headers=headers).status_code

    def get(self, path: str, **params: str) -> Object:
        found: Object = self._call("GET", path, params=params).json()
        return found

    def find(self, path: str) -> Object | None:
        """As `get`; None if there is no such object."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.code == httpx.codes.NOT_FOUND:
                return None
            raise

    def items(self, path: str, **params: str) -> list[Object]:
        return list(self.get(path, **params)["items"])

    def text(self, path: str, **params: str) -> str:
        return self._call("GET", path, params=params).text

    def create(self, path: str, body: Object) -> Object:
        made: Object = self._call("POST", path, json=body).json()
        return made

    def patch(self, path: str, body: Object, kind: str = "merge") -> Object:
        headers = {"Content-Type": PATCHES[kind]}
        patched: Object = self._call(
            "PATCH", path, content=json.dumps(body), headers=headers
        ).json()
        return patched

    def delete(self, path: str, **options: Any) -> None:
        """`options` are DeleteOptions (`gracePeriodSeconds=0`): the server reads its body alone."""
        self._call("DELETE", path, json={"kind": "DeleteOptions", "apiVersion": "v1", **options})

    def watch(self, path: str, version: str, seconds: int, **params: str) -> Iterator[Object]:
        """Events after this resource version, for so many seconds."""
        query = {
            **params,
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        with self._client.stream("GET", path, params=query, timeout=seconds + 10) as response:
            if response.is_error:
                response.read()
                raise Refused(response)
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)
