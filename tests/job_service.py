"""A stand-in for the service's job routes: a real HTTP server that records what a job sends.

The platform's own tests run jobs against the true service; these ask only for a job's side.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from aiaas_hub.schemas.jobs import (
    Job,
    JobEnvironment,
    JobEventFiles,
    JobLog,
    JobMetrics,
    JobUsage,
    TrialCreate,
)
from aiaas_hub.schemas.runs import (
    PinnedDataset,
    Progress,
    Resources,
    RunError,
    RunKind,
    RunState,
    Snapshot,
    SweepSpec,
    WorkerUsage,
)
from aiaas_hub.schemas.transforms import TransformResult, TransformSpec

TOKEN = "run-token"


def zipped(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@dataclass
class RecordedRun:
    job: Job
    snapshot: bytes
    datasets: list[bytes]
    metrics: dict[int, tuple[int, dict[str, float]]] = field(default_factory=dict)
    log: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] | None = None
    cancelled: bool = False
    usage: list[WorkerUsage] = field(default_factory=list)
    event_files: dict[int, str] = field(default_factory=dict)
    """Worker → digest."""
    environment: JobEnvironment | None = None
    made: list[dict[str, bytes]] = field(default_factory=list)
    """Of a transform: what it committed, by dataset."""
    progress: Progress | None = None
    token: str = TOKEN
    trials: dict[int, RecordedRun] = field(default_factory=dict)
    """Of a sweep, by number."""

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    @property
    def state(self) -> RunState:
        ends = {
            "succeeded": RunState.SUCCEEDED,
            "failed": RunState.FAILED,
            "stopped": RunState.CANCELLED,
        }
        return ends.get(self.kinds[-1] if self.events else "", RunState.RUNNING)

    @property
    def error(self) -> RunError:
        return RunError.model_validate(self.events[-1]["error"])


class JobService:
    """Start with `with JobService() as service`; `url` is the API's base."""

    def __init__(self) -> None:
        self.runs: dict[str, RecordedRun] = {}
        self.blobs: dict[str, bytes] = {}
        self.unavailable = False
        self.refused = 0
        """Requests while it was unavailable."""
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self, "GET")

            def do_POST(self) -> None:
                service.answer(self, "POST")

            def do_PUT(self) -> None:
                service.answer(self, "PUT")

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/v1"

    def __enter__(self) -> JobService:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        run_id: str,
        cell: str,
        *,
        frames: dict[str, pd.DataFrame] | None = None,
        params: dict[str, Any] | None = None,
        resources: Resources | None = None,
        retries: int = 0,
        files: dict[str, str | bytes] | None = None,
        python: str = "",
        sweep: SweepSpec | None = None,
        transform: TransformSpec | None = None,
    ) -> RecordedRun:
        import sys

        data = zipped(files or {"cell.py": cell, "manifest.json": json.dumps({"kind": "cell"})})
        contents = []
        for frame in (frames or {}).values():
            target = io.BytesIO()
            frame.to_parquet(target)
            contents.append(target.getvalue())
        job = Job(
            run_id=run_id,
            attempt=1,
            name="digits",
            owner="ada",
            snapshot=Snapshot(
                digest=hashlib.sha256(data).hexdigest(),
                source=cell,
                python=python or f"{sys.version_info.major}.{sys.version_info.minor}",
                client="0.1.0",
            ),
            datasets=[PinnedDataset(owner="ada", name=name, version=1) for name in frames or {}],
            dataset_digests=[hashlib.sha256(content).hexdigest() for content in contents],
            params=params or {},
            resources=resources or Resources(),
            retries=retries,
            kind=RunKind.TRANSFORM
            if transform is not None
            else RunKind.TRAIN
            if sweep is None
            else RunKind.SWEEP,
            sweep=sweep,
            transform=transform,
        )
        self.runs[run_id] = RecordedRun(job, data, contents)
        return self.runs[run_id]

    def answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        body = self._body(request)
        with self._lock:
            status, content = self._route(method, request.path, request.headers, body)
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    @staticmethod
    def _body(request: BaseHTTPRequestHandler) -> bytes:
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))

    def _route(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        if self.unavailable:
            self.refused += 1
            return 503, b""
        token = headers.get("Authorization")
        if token not in {f"Bearer {run.token}" for run in self.runs.values()}:
            return 401, _error("unauthenticated", "No.")
        parts = path.removeprefix("/api/v1/").split("/")
        if parts == ["blobs"]:
            digest = hashlib.sha256(body).hexdigest()
            self.blobs[digest] = body
            return 201, json.dumps({"digest": digest, "size": len(body)}).encode()
        run = self.runs[parts[1]]
        if token != f"Bearer {run.token}":
            return 401, _error("unauthenticated", "Not with another run's token.")
        if run.cancelled:
            return 409, _error("conflict", "The run was cancelled.")
        actions: dict[str, Callable[[], tuple[int, bytes]]] = {
            "GET job": lambda: (200, run.job.model_dump_json().encode()),
            "GET job/snapshot": lambda: (200, run.snapshot),
            "GET job/datasets": lambda: (200, run.datasets[int(parts[4])]),
            "POST job/metrics": lambda: self._metrics(run, body),
            "POST job/log": lambda: self._log(run, body),
            "POST job/events": lambda: self._event(run, body),
            "PUT job/environment": lambda: self._environment(run, body),
            "POST job/usage": lambda: self._usage(run, body),
            "POST job/trials": lambda: self._trial(run, body),
            "PUT job/event-files": lambda: self._event_files(run, body),
            "PUT job/model": lambda: self._model(run, body),
            "PUT job/datasets": lambda: self._datasets(run, body),
        }
        return actions[f"{method} {'/'.join(parts[2:4])}"]()

    def _trial(self, sweep: RecordedRun, body: bytes) -> tuple[int, bytes]:
        asked = TrialCreate.model_validate_json(body)
        trial = sweep.trials.get(asked.number)
        if trial is None:
            job = sweep.job.model_copy(
                update={
                    "run_id": f"{sweep.job.run_id}-trial-{asked.number}",
                    "kind": RunKind.TRIAL,
                    "params": {**sweep.job.params, **asked.params},
                    "sweep": None,
                }
            )
            trial = RecordedRun(job, sweep.snapshot, sweep.datasets, token=f"{TOKEN}-{job.run_id}")
            sweep.trials[asked.number] = self.runs[job.run_id] = trial
        answer = {"run_id": trial.job.run_id, "token": trial.token, "state": trial.state}
        return 200, json.dumps(answer).encode()

    @staticmethod
    def _metrics(run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        batch = JobMetrics.model_validate_json(body)
        run.progress = batch.progress or run.progress
        for position, point in enumerate(batch.points):
            run.metrics.setdefault(batch.sequence + position, (point.step, point.values))
        return 204, b""

    @staticmethod
    def _environment(run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        if not run.job.tell_environment:
            return 404, _error("not_found", "An older service has no such route.")
        run.environment = JobEnvironment.model_validate_json(body)
        return 204, b""

    @staticmethod
    def _usage(run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        run.usage += JobUsage.model_validate_json(body).samples
        return 204, b""

    @staticmethod
    def _log(run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        piece = JobLog.model_validate_json(body)
        if piece.offset == len(run.log.encode()):
            run.log += piece.text
        return 204, b""

    @staticmethod
    def _event(run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        event = json.loads(body)
        run.events.append(event)
        run.times[event["kind"]] = time.time()
        return 204, b""

    @staticmethod
    def _event_files(run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        files = JobEventFiles.model_validate_json(body)
        run.event_files[files.worker] = files.digest
        return 204, b""

    def _datasets(self, run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        result = TransformResult.model_validate_json(body)
        run.made.append({name: self.blobs[digest] for name, digest in result.contents.items()})
        made = []
        for name, digest in result.contents.items():
            version = {
                "version": 1,
                "format": "parquet",
                "digest": digest,
                "source": "run",
                "size": len(self.blobs[digest]),
                "created_at": "2026-01-01T00:00:00Z",
                "rows": pq.read_metadata(io.BytesIO(self.blobs[digest])).num_rows,
                "columns": [],
            }
            times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
            made.append({"owner": run.job.owner, "name": name, **times, "latest": version})
        return 200, json.dumps(made).encode()

    def _model(self, run: RecordedRun, body: bytes) -> tuple[int, bytes]:
        run.model = json.loads(body)
        version = {
            "owner": run.job.owner,
            "name": run.job.name,
            "version": 1,
            "created_at": "2026-01-01T00:00:00Z",
            "signature": run.model["signature"],
            "onnx": run.model["onnx"],
            "size": len(self.blobs[run.model["onnx"]]),
            "export_max_abs": run.model["export_max_abs"],
            "framework": run.model["framework"],
            "run_id": run.job.run_id,
        }
        return 200, json.dumps(version).encode()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()
