"""The service's application with real records, blobs and tables, and stand-ins for engines."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from safetensors.numpy import save
from standins import (
    StandInGateway,
    StandInIdentity,
    StandInServing,
    StandInSigner,
    StandInTraining,
)

from aiaas_hub.adapters.blobs import FsspecBlobs
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.api.services import Services
from aiaas_hub.app import PYTHON, compose
from aiaas_hub.config import ServiceConfig
from aiaas_hub.domain import input_drift
from aiaas_hub.domain.ports import TrainingEngine
from aiaas_hub.engines import Engines
from aiaas_hub.home import Home
from aiaas_hub.page.sessions import OAuthClient
from aiaas_hub.reconcile import Reconciler

PREFIX = "/services/aiaas/"
SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [3]}],
    "outputs": [{"name": "output", "dtype": "float32", "shape": [3]}],
}


@dataclass
class World:
    client: httpx.Client
    reconciler: Reconciler
    database: Database
    training: StandInTraining
    serving: StandInServing
    gateway: StandInGateway
    identity: StandInIdentity
    home: Home
    blobs: FsspecBlobs
    services: Services

    @property
    def base(self) -> str:
        return f"{PREFIX}api/v1"

    def call(self, method: str, path: str, token: str | None = "user:alice", **kwargs: Any) -> Any:
        headers = kwargs.pop("headers", {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.client.request(method, f"{PREFIX}api/v1{path}", headers=headers, **kwargs)

    def ok(self, method: str, path: str, token: str | None = "user:alice", **kwargs: Any) -> Any:
        response = self.call(method, path, token, **kwargs)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    def upload(self, content: bytes, token: str = "user:alice") -> str:
        digest: str = self.ok("POST", "/blobs", token, content=content)["digest"]
        assert digest == hashlib.sha256(content).hexdigest()
        return digest

    def dataset(self, name: str = "digits", token: str = "user:alice", rows: int = 5) -> Any:
        owner = token.partition(":")[2]
        sink = io.BytesIO()
        pq.write_table(pa.table({"x": list(range(rows)), "label": ["a"] * rows}), sink)
        blob = self.upload(sink.getvalue(), token)
        return self.ok("POST", f"/datasets/{owner}/{name}/versions", token, json={"blob": blob})

    def submit(self, token: str = "user:alice", **changes: Any) -> Any:
        digest = self.upload(b"a snapshot", token)
        body = {
            "name": "cnn",
            "snapshot": {
                "digest": digest,
                "source": "def train(ctx): ...",
                "python": PYTHON,
                "client": "0",
            },
            **changes,
        }
        return self.ok("POST", "/runs", token, json=body)

    def run_token(self, run: Any) -> str:
        self.tick()
        return next(s.token for s in self.training.submissions if s.id.startswith(run["id"]))

    def hand_over(
        self,
        token: str = "user:alice",
        onnx: bytes = b"onnx",
        offset: float = 0.0,
        held_out: int = 4,
    ) -> dict[str, Any]:
        """What an exporter hands over; the stand-in engine answers 2x."""
        x = np.arange(3 * held_out, dtype=np.float32).reshape(held_out, 3)
        rows = save({"input.x": x, "output.output": 2 * x + np.float32(offset)})
        return {
            "onnx": self.upload(onnx, token),
            "evaluation": self.upload(rows, token),
            "signature": SIGNATURE,
            "export_max_abs": 0.0,
            "framework": "torch",
        }

    def send(self, rows: Any, version: int = 1) -> None:
        """As if callers had sent these rows to a version of the only endpoint, `[rows, 3]`."""
        ((key, expected),) = [
            (key, found) for key, found in self.serving.references.items() if key[1] == version
        ]
        assert expected is not None
        fresh = input_drift.bins(expected.features).count({"x": np.asarray(rows, np.float32)})
        counted = self.serving.inputs.get(key)
        self.serving.inputs[key] = fresh if counted is None else counted + fresh

    def model(self, name: str = "cnn", token: str = "user:alice", **kwargs: Any) -> Any:
        owner = token.partition(":")[2]
        body = self.hand_over(token, **kwargs)
        return self.ok("POST", f"/models/{owner}/{name}/versions", token, json=body)

    def tick(self, times: int = 1) -> None:
        """What the reconciler's threads do, here and now."""
        for _ in range(times):
            self.reconciler._advance_runs()
            self.reconciler._converged_at = 0.0
            try:
                self.reconciler._advance_endpoints()
            finally:
                for future in list(self.reconciler._publishing.values()):
                    future.exception()
            for step in self.reconciler.background.values():
                step()

    def published(self, name: str = "digits", token: str = "user:alice", **kwargs: Any) -> Any:
        owner = token.partition(":")[2]
        self.model(token=token, **kwargs)
        self.ok("POST", f"/endpoints/{owner}/{name}/publish", token, json={"model": "cnn"})
        self.tick()
        return self.ok("GET", f"/endpoints/{owner}/{name}", token)


@functools.cache
def _migrated() -> bytes:
    """An SQLite file with this release's schema, which takes half as long as all of a service's
    start to make."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "records.sqlite"
        database = Database(f"sqlite:///{file}")
        database.migrate()
        database.close()
        return file.read_bytes()


@contextmanager
def serving(
    home: Home,
    url: str,
    browser: OAuthClient | None = None,
    real: TrainingEngine | None = None,
    port: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[World]:
    """The application behind a real server on a port of loopback, a free one by default; with a
    `real` engine for its runs, where there is one, and an operator's `settings`."""
    home.prepare()
    training, engine, gateway = StandInTraining(), StandInServing(), StandInGateway()
    identity = StandInIdentity()
    artifacts = str(home.artifacts / "blobs")
    config = ServiceConfig(records_url=url, artifacts_url=artifacts, **(settings or {}))
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        file.write_bytes(_migrated())
    app, reconciler, database = compose(
        home,
        config,
        Engines(real or training, engine, gateway, StandInSigner()),
        identity,
        PREFIX,
        browser,
    )
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=30) as client:
            yield World(
                client,
                reconciler,
                database,
                training,
                engine,
                gateway,
                identity,
                home,
                FsspecBlobs(config.artifacts_url, cache=home.artifacts / "cache"),
                app.state.services,
            )
    finally:
        # Also where a test fails: the process would wait for the server's thread.
        server.should_exit = True
        thread.join()
        reconciler.stop()
        database.close()


def events(text: str) -> list[tuple[str, Any]]:
    """Server-sent events, as name and data."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found
