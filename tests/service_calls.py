"""Calls of the running platform's service with a real hub token, as a notebook would make them."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from aiaas_hub.app import PYTHON
from aiaas_hub.local.hub_session import HubSession

SLOW_TRAINING = """
import time
import torch

class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x

def train(ctx):
    for step in range(ctx.params["steps"]):
        ctx.report(step=step, loss=1.0 / (step + 1))
        print("step", step, flush=True)
        time.sleep(0.25)
    example = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    ctx.save_model(Double(), example_input=example, eval_input=example)
"""


class Visited(Protocol):
    """A platform that somebody can sign in to."""

    @property
    def url(self) -> str: ...

    @property
    def gateway(self) -> str: ...

    def session(self, user: str) -> HubSession: ...


@dataclass
class ServiceCalls:
    """One user's view of the service."""

    platform: Visited
    user: str
    token: str

    @classmethod
    def of(cls, platform: Visited, user: str) -> ServiceCalls:
        with platform.session(user) as session:
            session.http.get("/hub/home").raise_for_status()
            answer = session.http.post(
                f"/hub/api/users/{quote(user, safe='')}/tokens",
                headers={"X-XSRFToken": session.xsrf("/hub/")},
                json={"note": "a test"},
            )
            answer.raise_for_status()
        return cls(platform, user, answer.json()["token"])

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return httpx.request(
            method,
            f"{self.platform.url}/services/aiaas/api/v1{path}",
            headers={"Authorization": f"Bearer {self.token}", **arguments.pop("headers", {})},
            timeout=30,
            **arguments,
        )

    def ok(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.call(method, path, **arguments)
        assert answer.is_success, answer.text
        return answer.json()

    def upload(self, content: bytes) -> str:
        digest: str = self.ok("POST", "/blobs", content=content)["digest"]
        assert digest == hashlib.sha256(content).hexdigest()
        return digest

    def submit(self, source: str, **changes: Any) -> str:
        run: str = self.ok("POST", "/runs", json=self.run_request(source, **changes))["id"]
        return run

    def run_request(self, source: str, **changes: Any) -> dict[str, Any]:
        """What submits the source, whose snapshot is sent now."""
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr("cell.py", source)
            manifest = {"kind": "cell", "python": PYTHON, "client": "0.1.0"}
            archive.writestr("manifest.json", json.dumps(manifest))
        digest = self.upload(sink.getvalue())
        snapshot = {"digest": digest, "source": source, "python": PYTHON, "client": "0.1.0"}
        return {"name": "slow", "snapshot": snapshot, **changes}

    def run_until(self, run: str, *states: str, timeout: float = 300) -> Any:
        return until(
            lambda: self.call("GET", f"/runs/{run}"),
            lambda found: found["state"] in states,
            timeout,
            # A run that is over will not become anything else.
            over=lambda found: found["state"] in ("failed", "lost", "cancelled"),
        )

    def endpoint_until(self, name: str, *states: str, timeout: float = 120) -> Any:
        return until(
            lambda: self.call("GET", f"/endpoints/{quote(self.user)}/{name}"),
            lambda found: found["state"] in states,
            timeout,
            over=lambda found: found["state"] == "failed",
        )

    def predict(self, name: str, token: str | None = None) -> httpx.Response:
        """One row through the gateway, in the protocol's JSON form."""
        owner = quote(self.user, safe="")
        if token is None:
            token = self.ok("POST", f"/endpoints/{owner}/{name}/token")["token"]
        row = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
        return httpx.post(
            f"{self.platform.gateway}/{owner}/{name}/v2/models/{name}/infer",
            json={"inputs": [row]},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )


def until(
    ask: Callable[[], httpx.Response],
    done: Callable[[Any], bool],
    timeout: float,
    over: Callable[[Any], bool] = lambda found: False,
) -> Any:
    """Ask until `done`, through restarts of whatever answers."""
    deadline = time.monotonic() + timeout
    found: Any = None
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.is_success:
            found = answer.json()
            if done(found):
                return found
            assert not over(found), found
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout} s; last seen: {found}")
