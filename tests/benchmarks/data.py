"""The first and a filtered page of a dataset, beside pandas and plain DuckDB, and the list of many.

    python tests/benchmarks/data.py [ROWS] [DATASETS]

ROWS is the larger of two tables with the same columns (the smaller has a million rows). Times are
those of a client over HTTP, the first call after the service has started and then the median of
several; memory is the peak of the service's process above what it has anyhow, with the query's own
process where there is one. pandas and DuckDB each read the same file in a fresh process, whose
whole peak is told. The list is asked for by 20 clients in processes of their own: `busy`, each
asking again at once (by `load.py`, which takes little of the service's processors), and `paced`,
each once in half a second. `cpu_ms` is the processor time that
the service takes for one list of 50 while one client asks. ROWS 0 leaves the pages out.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import duckdb
import httpx
import psutil
from api_world import PREFIX, serving
from sqlalchemy import insert

from aiaas_hub.adapters.blobs import FsspecBlobs
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.tables import DatasetRow, DatasetTermRow, DatasetVersionRow
from aiaas_hub.domain.search import terms_of
from aiaas_hub.home import Home

SMALL = 1_000_000
CLIENTS = 20
WHERE = "city = 'c77' AND price > 99.9"
LIMITS = {"first_page_seconds": 0.3, "first_page_mib": 200, "list_p99_seconds": 0.05}
HEADERS = {"Authorization": "Bearer user:alice"}
COLUMNS = [{"name": n, "type": t, "nullable": True} for n, t in (("id", "int64"), ("x", "double"))]

ALTERNATIVES = {
    "pandas": (
        "import pandas as pd",
        "pd.read_parquet(path).head(10)",
        "pd.read_parquet(path, filters=[('city', '==', 'c77'), ('price', '>', 99.9)]).head(10)",
    ),
    "duckdb": (
        "import duckdb",
        "duckdb.sql(f\"FROM '{path}' LIMIT 10\").fetchall()",
        f"duckdb.sql(f\"FROM '{{path}}' WHERE {WHERE} LIMIT 10\").fetchall()",
    ),
}


def main(rows: int = 100_000_000, datasets: int = 100_000) -> dict[str, Any]:
    """Measure, print and return `{"pages": …, "list": …, "limits": …, "ok": …}`."""
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        result = {
            "pages": {
                str(n): _pages(directory / str(n), n) for n in sorted({SMALL, rows} if rows else ())
            },
            "list": _list(directory / "list", datasets),
            "limits": LIMITS,
        }
    firsts = [page["platform"]["first_page"] for page in result["pages"].values()]
    result["ok"] = (
        all(first["seconds"] <= LIMITS["first_page_seconds"] for first in firsts)
        and all(first["peak_mib"] <= LIMITS["first_page_mib"] for first in firsts)
        and result["list"]["paced"]["p99"] <= LIMITS["list_p99_seconds"]
    )
    sys.stdout.write(json.dumps(result) + "\n")
    return result


def _pages(directory: Path, rows: int) -> dict[str, Any]:
    directory.mkdir()
    path = directory / "table.parquet"
    chosen = "range AS id, 'c' || (hash(range) % 1000) AS city"
    price = "(hash(range + 1) % 100000) / 1000 AS price"
    table = f"SELECT {chosen}, {price} FROM range({rows})"  # noqa: S608 - a number
    duckdb.sql(f"COPY ({table}) TO '{path}'")
    found: dict[str, Any] = {"file_mib": round(path.stat().st_size / 2**20)}
    for name, (imports, first, filtered) in ALTERNATIVES.items():
        found[name] = {
            "first_page": _alone(imports, first, path),
            "filtered_page": _alone(imports, filtered, path),
        }
    with _service(directory, path) as (address, process):
        base = f"{address}/datasets/alice/table/preview?n=10"
        found["platform"] = {
            "first_page": _asked(base, process),
            "filtered_page": _asked(f"{base}&where={WHERE}", process),
            "sorted_page": _asked(f"{base}&sort=price:desc,id", process, repeats=1),
        }
    path.unlink(missing_ok=True)
    return found


def _alone(imports: str, expression: str, path: Path) -> dict[str, float]:
    """Seconds of the expression, without its imports, and the process's peak."""
    program = (
        f"import json, resource, time\n{imports}\npath = {str(path)!r}\n"
        f"began = time.perf_counter()\n{expression}\nseconds = time.perf_counter() - began\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(json.dumps({'seconds': round(seconds, 4), 'peak_mib': round(peak)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return {"ended_with": done.returncode}
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


class _service:  # noqa: N801 - used as a function
    """The service in a process of its own, with alice's `table` if there is a file for it."""

    def __init__(self, directory: Path, path: Path | None) -> None:
        self._directory = directory
        self._path = path

    def __enter__(self) -> tuple[str, psutil.Process]:
        context = multiprocessing.get_context("spawn")
        self._end = context.Event()
        ready: Any = context.Queue()
        self._process = context.Process(
            target=_serve, args=(self._directory, self._path, ready, self._end)
        )
        self._process.start()
        return ready.get(timeout=120), psutil.Process(self._process.pid)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()


def _serve(directory: Path, path: Path | None, ready: Any, end: Any) -> None:
    url = f"sqlite:///{directory}/records.sqlite"
    with serving(Home(directory / "home"), url) as world:
        if path is not None:
            with path.open("rb") as stream:
                digest, _ = world.blobs.put(stream, limit=1 << 40)
            path.unlink()
            world.services.grants.grant("alice", digest)
            world.ok("POST", "/datasets/alice/table/versions", json={"blob": digest})
        origin = str(world.client.base_url).rstrip("/")
        ready.put(f"{origin}{PREFIX}api/v1")
        end.wait()


def _asked(url: str, process: psutil.Process, repeats: int = 5) -> dict[str, float]:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    before = process.memory_info().rss
    peak_of_query = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal peak_of_query
        while not over.wait(0.01):
            try:
                rss = [child.memory_info().rss for child in process.children()]
            except psutil.NoSuchProcess:
                # It ended between the two.
                continue
            peak_of_query = max(peak_of_query, *rss, 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    samples = []
    with httpx.Client(headers=HEADERS, timeout=300) as client:
        for _ in range(1 + repeats):
            began = time.perf_counter()
            client.get(url).raise_for_status()
            samples.append(time.perf_counter() - began)
    over.set()
    watcher.join()
    status = Path(f"/proc/{process.pid}/status").read_text()
    high = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return {
        "seconds": round(samples[0], 4),
        "median_seconds": round(statistics.median(samples[1:]), 4),
        "peak_mib": round((max(0, high - before) + peak_of_query) / 2**20),
    }


def _list(directory: Path, datasets: int) -> dict[str, Any]:
    """alice has a hundredth of all datasets; a thousandth is everyone's."""
    home = Home(directory / "home")
    home.prepare()
    FsspecBlobs(str(home.artifacts / "blobs"), cache=home.artifacts / "cache")
    database = Database(f"sqlite:///{directory}/records.sqlite")
    database.migrate()
    now = datetime.now(UTC)
    for first in range(0, datasets, 5000):
        numbers = range(first, min(first + 5000, datasets))
        with database.transaction() as session:
            session.execute(insert(DatasetRow), [_dataset(n, now) for n in numbers])
            session.execute(insert(DatasetVersionRow), [_version(n, now) for n in numbers])
            session.execute(insert(DatasetTermRow), [term for n in numbers for term in _terms(n)])
    database.close()
    with _service(directory, None) as (address, process):
        return {
            "datasets": datasets,
            "clients": CLIENTS,
            "cpu_ms": _cpu(f"{address}/datasets?limit=50", process),
            "busy": _busy(f"{address}/datasets"),
            "paced": _clients(f"{address}/datasets", 20, 0.5),
            "search": _clients(f"{address}/datasets?search=rainfall d123", 20, 0.5),
        }


def _owner(number: int) -> str:
    return "alice" if number % 100 == 0 else f"user{number % 997}"


def _dataset(number: int, now: datetime) -> dict[str, Any]:
    return {
        "id": number + 1,
        "owner": _owner(number),
        "name": f"d{number}",
        "description": "Rainfall by the hour.",
        "licence": "",
        "tags": ["gold"] if number % 10 == 0 else [],
        "visibility": "everyone" if number % 1000 == 1 else "private",
        "created_at": now,
        "updated_at": now,
        "latest_version": 1,
    }


def _version(number: int, now: datetime) -> dict[str, Any]:
    return {
        "dataset_id": number + 1,
        "version": 1,
        "created_at": now,
        "format": "parquet",
        "digest": f"{number:064}",
        "size": 1,
        "rows": 1,
        "columns": COLUMNS,
        "source": "upload",
    }


def _terms(number: int) -> list[dict[str, Any]]:
    found = terms_of(_owner(number), f"d{number}", ["id", "x"], [], "Rainfall by the hour.")
    return [{"term": term, "dataset_id": number + 1, "kind": kind} for term, kind in found]


def _cpu(url: str, process: psutil.Process, requests: int = 200) -> float:
    """Milliseconds of the service's processor time for one request."""
    with httpx.Client(headers=HEADERS, timeout=60) as client:
        for _ in range(10):
            client.get(url).raise_for_status()
        before = process.cpu_times()
        for _ in range(requests):
            client.get(url).raise_for_status()
        after = process.cpu_times()
    return round(1000 * (after.user + after.system - before.user - before.system) / requests, 2)


def _busy(url: str) -> dict[str, float]:
    """Seconds of requests of clients that ask again at once, for five seconds."""
    parsed = httpx.URL(url)
    authority = f"{parsed.host}:{parsed.port}"
    lines = [f"GET {parsed.path} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    request = "\r\n".join([*lines, "", ""]).encode()
    spec = {
        "address": authority,
        "request": base64.b64encode(request).decode(),
        "connections": CLIENTS,
        "seconds": 5,
    }
    program = [sys.executable, str(Path(__file__).with_name("load.py")), json.dumps(spec)]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout)
    if measured["failures"]:
        raise RuntimeError(f"{measured['failures']} lists were refused")
    return {
        "per_second": measured["per_second"],
        "p50": round(measured["p50_ms"] / 1000, 4),
        "p99": round(measured["p99_ms"] / 1000, 4),
    }


def _clients(url: str, requests: int, pause: float) -> dict[str, float]:
    """Seconds of all requests of all clients."""
    context = multiprocessing.get_context("fork")
    # Few processes with several clients each: the clients must not take the service's processors.
    with context.Pool(2) as pool:
        half = CLIENTS // 2
        parts = pool.starmap(_ask, [(url, half, requests, pause)] * 2)
    samples = sorted(sample for part in parts for sample in part)
    return {
        "p50": round(statistics.median(samples), 4),
        "p99": round(samples[int(0.99 * len(samples))], 4),
    }


def _ask(url: str, clients: int, requests: int, pause: float) -> list[float]:
    samples: list[float] = []

    def one(number: int) -> None:
        with httpx.Client(headers=HEADERS, timeout=60) as client:
            # Not all at once: people are not.
            time.sleep(pause * number / clients)
            client.get(url).raise_for_status()
            for _ in range(requests):
                began = time.perf_counter()
                client.get(url).raise_for_status()
                samples.append(time.perf_counter() - began)
                time.sleep(max(0.0, pause - (time.perf_counter() - began)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return samples


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:]))["ok"] else 1)
