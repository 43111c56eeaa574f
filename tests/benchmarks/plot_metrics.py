"""Reading a run's curves when it has reported a million points, against one of a thousand.

    python tests/benchmarks/plot_metrics.py [POINTS] [REPEATS]

The service runs in this process on SQLite; times are those of a client over HTTP, medians in
seconds. `plot` is all that `%aiaas metrics` does: it asks and draws. `batch` is what a run reports
in half a second at 2,000 steps a second.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from api_world import World, serving

from aiaas_hub.home import Home
from aiaas_magics.client import Client
from aiaas_magics.client.transport import Connection, Transport
from aiaas_magics.run import Run
from aiaas_magics.run_metrics import RunMetrics

SHOWN = 800
BATCH = 1000
SMALL = 1000
LIMIT_SECONDS = 1.0


def main(points: int = 1_000_000, repeats: int = 7) -> dict[str, Any]:
    """Measure, print and return `{"curve": …, "plot": …, "run": …, "append": …, "ok": …}`."""
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory) / "home")
        with serving(home, f"sqlite:///{directory}/records.sqlite") as world:
            result = _measure(world, points, repeats)
    sys.stdout.write(json.dumps(result) + "\n")
    return result


def _measure(world: World, points: int, repeats: int) -> dict[str, Any]:
    large, small = world.submit(), world.submit()
    world.tick()
    appended = _report(world, large, points)
    _report(world, small, SMALL)

    def read(run: Any, query: str) -> Callable[[], Any]:
        return lambda: world.ok("GET", f"/runs/{run['id']}{query}")

    curve = f"/metrics?points={SHOWN}"
    answer = read(large, curve)()
    assert answer["total"] == points
    assert max(point["values"].get("loss", -1) for point in answer["points"]) == 9.0
    address = f"{str(world.client.base_url).rstrip('/')}{world.base.removesuffix('/api/v1')}"
    client = Client(Transport(Connection(address, "user:alice")))

    def plot(run: Any) -> None:
        drawn = RunMetrics(Run(client, client.runs.get(run["id"])))._repr_mimebundle_()
        assert "image/svg" in drawn["text/html"]

    plotted = _median(lambda: plot(large), repeats)
    tenth = max(len(appended) // 10, 1)
    return {
        "points": points,
        "curve": {
            "seconds": _median(read(large, curve), repeats),
            "of_a_thousand_points": _median(read(small, curve), repeats),
            "points_answered": len(answer["points"]),
        },
        "plot": {
            "seconds": plotted,
            "of_a_thousand_points": _median(lambda: plot(small), repeats),
        },
        "run": {
            "seconds": _median(read(large, ""), repeats),
            "of_a_thousand_points": _median(read(small, ""), repeats),
        },
        "append": {
            "batch": BATCH,
            "seconds": round(statistics.median(appended), 4),
            "last_to_first": round(
                statistics.median(appended[-tenth:]) / statistics.median(appended[:tenth]), 2
            ),
        },
        "limits": {"plot_seconds": LIMIT_SECONDS},
        "ok": plotted <= LIMIT_SECONDS,
    }


def _report(world: World, run: Any, points: int) -> list[float]:
    """Seconds that each batch took."""
    token = next(s.token for s in world.training.submissions if s.id.startswith(run["id"]))
    taken = []
    for first in range(0, points, BATCH):
        steps = range(first, min(first + BATCH, points))
        body = {"sequence": first, "points": [_point(step, points) for step in steps]}
        began = time.perf_counter()
        answer = world.call("POST", f"/runs/{run['id']}/job/metrics", token, json=body)
        taken.append(time.perf_counter() - began)
        assert answer.status_code == 204, answer.text
    return taken


def _point(step: int, points: int) -> dict[str, Any]:
    values = {"loss": math.exp(-3 * step / points), "accuracy": 1 - math.exp(-step / points)}
    if step == points // 3:
        values["loss"] = 9.0  # a spike, which no plot may lose
    if step % 100 == 0:
        values["lr"] = 0.1
    return {"step": step, "time": float(step), "values": values}


def _median(call: Callable[[], Any], repeats: int) -> float:
    samples = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        samples.append(time.perf_counter() - began)
    return round(statistics.median(samples), 4)


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:]))["ok"] else 1)
