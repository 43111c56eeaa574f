"""Following runs and endpoints: in place, to the true end, through broken lines and interrupts."""

from __future__ import annotations

import queue
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from api_world import World
from notebook_shell import Notebook
from run_reports import JobSide, beside, submit

import aiaas_magics as aiaas
from aiaas_hub.schemas import runs as wire
from aiaas_magics import screen, watching
from aiaas_magics.client.runs import Disconnected, RunsClient
from aiaas_magics.client.transport import Transport
from aiaas_magics.errors import RunFailed
from aiaas_magics.run_view import RunView


class Recorder:
    """A screen that keeps what it was shown."""

    def __init__(self) -> None:
        self.html: list[str] = []
        self.lines: list[str] = []

    def show(self, view: screen.View) -> None:
        self.html.append(view.html())
        self.lines.append(view.line())


def test_a_run_is_followed_to_its_end(world: World, notebook: Notebook) -> None:
    run = submit(notebook)
    job = JobSide(world, run)
    on = Recorder()

    def work() -> None:
        job.event("started")
        for _ in range(3):
            job.step(5)
            job.log("a line <script>alert(1)</script>\n\x1b[31mred\x1b[0m\n")
            time.sleep(0.5)
        job.event("succeeded")

    thread = beside(work)
    began = time.monotonic()
    watching.watch(run, on)
    seconds = time.monotonic() - began
    thread.join()
    assert run._record.state == "succeeded"
    assert "step 15" in on.lines[-1]
    assert "succeeded" in on.lines[-1]
    assert "<img" in on.html[-1]
    assert "red" in on.html[-1]
    assert not any("<script" in html or "\x1b" in html for html in on.html)
    # The first, the last, and at most one for each second between.
    assert len(on.html) <= seconds + 2


def test_a_failed_run_is_one_sentence(world: World, notebook: Notebook) -> None:
    run = submit(notebook)
    job = JobSide(world, run)
    job.event("started")
    error = {"message": "ZeroDivisionError: division by zero", "remedy": "Look at line 3."}
    job.event("failed", error={**error, "traceback": "cell.py, line 3, in train"})
    said = notebook.refuses(f"%aiaas attach {run.id}")
    assert said == f"Run {run.id} failed: {error['message']}. {error['remedy']}"
    with pytest.raises(RunFailed) as failure:
        run.raise_for_failure()
    assert failure.value.run is run
    # A Python call shows the sentence as well, and none of our frames.
    assert failure.value._render_traceback_() == [f"RunFailed: {said}"]


def test_pain_no_progress(world: World, notebook: Notebook) -> None:
    run = submit(notebook)
    job = JobSide(world, run)
    job.event("started")
    job.step(3)
    world.ok(
        "POST",
        f"/runs/{run.id}/job/metrics",
        world.run_token({"id": run.id}),
        json={"sequence": 3, "points": [], "progress": {"step": 3, "total": 12}},
    )
    job.event("succeeded")
    on = Recorder()
    watching.watch(run, on)
    assert "3 of 12" in on.lines[-1]


def test_an_interrupt_of_the_submission_says_where_to_look(
    world: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    create = RunsClient.create

    def interrupted(client: RunsClient, run: wire.RunCreate) -> None:
        create(client, run)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunsClient, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        notebook.run("%%aiaas train --name cnn\ndef train(ctx):\n    ctx.report(loss=1)\n")
    assert "'%aiaas runs' shows it" in capsys.readouterr().out


def test_a_log_is_followed(world: World, notebook: Notebook, capsys: Any) -> None:
    run = submit(notebook)
    job = JobSide(world, run)
    job.event("started")
    job.log("first\n")
    thread = beside(lambda: (time.sleep(0.3), job.log("second\n"), job.event("succeeded")))
    assert notebook.run(f"%aiaas logs {run.id} -f").state == "succeeded"
    thread.join()
    assert "first\nsecond\n" in capsys.readouterr().out


def test_a_function_is_trained_by_value(world: World, notebook: Notebook) -> None:
    run = aiaas.train(lambda ctx: None, name="by-value", params={"lr": 0.1}, detach=True)
    assert run.name == "by-value"
    assert run._record.snapshot.entry == "function.pkl"
    with pytest.raises(Exception, match="is a list"):
        aiaas.train(lambda ctx: None, name="x", params={"lr": [1]}, detach=True)  # type: ignore[dict-item]


class Breaking(httpx.BaseTransport):
    """The transport itself is under test here: the real one, cut off after some bytes."""

    def __init__(self, cuts: list[int]) -> None:
        self._real = httpx.HTTPTransport()
        self._cuts = cuts
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._real.handle_request(request)
        if not request.url.path.endswith("/events"):
            return response
        self.asked.append(request.url.query.decode())
        if not self._cuts:
            return response
        return httpx.Response(
            response.status_code, headers=response.headers, stream=Cut(response, self._cuts.pop(0))
        )

    def close(self) -> None:
        self._real.close()


class Cut(httpx.SyncByteStream):
    """A body that ends early: as an end (cut > 0), or as an error of the network (cut < 0)."""

    def __init__(self, response: httpx.Response, cut: int) -> None:
        self._response = response
        self._cut = cut

    def __iter__(self) -> Any:
        seen = b""
        for chunk in self._response.iter_raw():
            seen += chunk
            if len(seen) >= abs(self._cut):
                break
        yield seen[: abs(self._cut)]
        if self._cut < 0:
            raise httpx.ReadError("connection reset")

    def close(self) -> None:
        self._response.close()


def test_pain_a_log_that_ends_normally_at_a_disconnect(world: World, notebook: Notebook) -> None:
    run = submit(notebook)
    job = JobSide(world, run)
    job.event("started")
    job.step(3)
    job.log("one\n")
    whole = len(
        "".join(
            world.call("GET", f"/runs/{run.id}{path}").text for path in ("", "/metrics", "/logs")
        )
    )
    breaking = Breaking([whole * 2, -60, 10])
    transport = Transport(_connection(), transport=breaking)
    updates: list[Any] = []

    rounds = 0

    def finish() -> None:
        nonlocal rounds
        deadline = time.monotonic() + 60
        # The first cut comes after what is there by now: work goes on until all were made.
        while len(breaking.asked) < 4 and time.monotonic() < deadline:
            rounds += 1
            job.step()
            job.log("more\n")
            time.sleep(0.05)
        job.step(2)
        job.log("two\n")
        job.event("succeeded")

    thread = beside(finish)
    for update in RunsClient(transport).watch(run.id):
        updates.append(update)
    thread.join()
    transport.close()
    assert updates[-1].state == "succeeded"
    assert any(isinstance(update, Disconnected) for update in updates)
    steps = [p.step for u in updates if isinstance(u, wire.Metrics) for p in u.points]
    assert steps == list(range(1, 3 + rounds + 2 + 1))
    text = "".join(u.text for u in updates if isinstance(u, wire.LogChunk))
    assert text == "one\n" + "more\n" * rounds + "two\n"
    assert len(breaking.asked) >= 4


def _connection() -> Any:
    from aiaas_magics.client import Connection

    return Connection.from_environment()


class Slow(Recorder):
    """A screen on a busy machine."""

    def show(self, view: screen.View) -> None:
        super().show(view)
        time.sleep(0.3)


def test_a_redraw_waits_when_drawing_is_slow_and_shows_all_that_came() -> None:
    """Ten thousand updates cost a handful of redraws, the last of which has them all."""

    class Instant:
        def __init__(self, record: wire.Run) -> None:
            self.updates: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for step in range(10_000):
                point = wire.MetricPoint(step=step, time=step, values={"loss": 1.0})
                self.updates.put(wire.Metrics(points=[point], next_since=step))
            self.updates.put(None)

    now = datetime.now(UTC)
    snapshot = wire.Snapshot(digest="0" * 64, python="3.11", client="0")
    record = wire.Run(
        id="run-1", owner="ada", name="cnn", state=wire.RunState.RUNNING, attempt=1,
        snapshot=snapshot, datasets=[], params={}, resources=wire.Resources(), retries=0,
        created_at=now, started_at=now,
    )  # fmt: skip
    view, on = RunView(record), Slow()
    watching._follow(view, Instant(record), on)  # type: ignore[arg-type]
    assert len(on.html) <= 2
    assert "step 9,999" in view.line()
