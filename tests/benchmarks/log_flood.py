"""What a run that writes ten thousand lines a second costs the API.

    python tests/benchmarks/log_flood.py [SECONDS] [LINES_PER_SECOND]

The service runs in a process of its own on SQLite. A run's log is sent as its driver sends it, a
piece every second, while someone watches the run's stream and another user asks for lists.
Latencies are medians and 95th percentiles in milliseconds, quiet and flooded in turn.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from api_world import serving

from aiaas_hub.home import Home

PIECE_SECONDS = 1.0
PAUSE_SECONDS = 0.02
LIMIT_RATIO = 3.0
"""Of the medians: on two busy cores the reader of the stream takes its part too."""


def main(seconds: int = 10, lines: int = 10_000) -> dict[str, Any]:
    """Measure, print and return `{"quiet": …, "flooded": …, "ratio": …, "kept_up": …, "ok": …}`."""
    with tempfile.TemporaryDirectory() as directory:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(directory, theirs))
        process.start()
        base, run_id, token = ours.recv()
        try:
            result = _measure(base, run_id, token, seconds, lines)
        finally:
            ours.send("stop")
            process.join()
    sys.stdout.write(json.dumps(result) + "\n")
    return result


def _serve(directory: str, pipe: Any) -> None:
    home = Home(Path(directory) / "home")
    with serving(home, f"sqlite:///{directory}/records.sqlite") as world:
        run = world.submit()
        token = world.run_token(run)
        for _ in range(5):
            world.submit("user:bob")
        pipe.send((f"{str(world.client.base_url).rstrip('/')}{world.base}", run["id"], token))
        pipe.recv()


def _measure(base: str, run_id: str, token: str, seconds: int, lines: int) -> dict[str, Any]:
    with httpx.Client(base_url=base, timeout=30) as http:
        quiet = _latencies(http, seconds)
        over = threading.Event()
        taken: list[float] = []
        seen: list[int] = []
        flood = threading.Thread(
            target=_flood, args=(base, run_id, token, lines, over, taken), daemon=True
        )
        watcher = threading.Thread(target=_watch, args=(base, run_id, over, seen), daemon=True)
        watcher.start()
        flood.start()
        flooded = _latencies(http, seconds)
        over.set()
        flood.join()
        answer = http.get(f"/runs/{run_id}/logs?tail=200", headers=_as("alice")).json()
    ratio = round(flooded["median"] / quiet["median"], 2)
    last = int(answer["text"].splitlines()[-1].split()[1])
    return {
        "lines_a_second": lines,
        "quiet": quiet,
        "flooded": flooded,
        "ratio": ratio,
        "piece_ms": round(1000 * statistics.median(taken), 1),
        "kept_up": last + 1 == len(taken) * int(lines * PIECE_SECONDS),
        "watched_bytes": sum(seen),
        "limits": {"ratio": LIMIT_RATIO},
        "ok": ratio <= LIMIT_RATIO and max(taken) < PIECE_SECONDS * 2,
    }


def _flood(
    base: str, run_id: str, token: str, lines: int, over: threading.Event, taken: list[float]
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    offset, number = 0, 0
    with httpx.Client(base_url=base, headers=headers, timeout=30) as http:
        due = time.perf_counter()
        while not over.is_set():
            count = int(lines * PIECE_SECONDS)
            text = "".join(f"step {number + i} loss 0.123456 of this run\n" for i in range(count))
            began = time.perf_counter()
            answer = http.post(f"/runs/{run_id}/job/log", json={"offset": offset, "text": text})
            taken.append(time.perf_counter() - began)
            assert answer.status_code == 204, answer.text
            offset, number = offset + len(text), number + count
            due += PIECE_SECONDS
            over.wait(max(due - time.perf_counter(), 0))


def _watch(base: str, run_id: str, over: threading.Event, seen: list[int]) -> None:
    with (
        httpx.Client(base_url=base, timeout=30) as http,
        http.stream("GET", f"/runs/{run_id}/events", headers=_as("alice")) as answer,
    ):
        for chunk in answer.iter_bytes():
            seen.append(len(chunk))
            if over.is_set():
                return


def _latencies(http: httpx.Client, seconds: int) -> dict[str, float]:
    """Of `GET /runs` and `GET /me` of another user."""
    samples = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for path in ("/runs", "/me"):
            began = time.perf_counter()
            assert http.get(path, headers=_as("bob")).status_code == 200
            samples.append(1000 * (time.perf_counter() - began))
        time.sleep(PAUSE_SECONDS)
    return {
        "median": round(statistics.median(samples), 2),
        "p95": round(statistics.quantiles(samples, n=20)[-1], 2),
    }


def _as(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer user:{user}"}


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:]))["ok"] else 1)
