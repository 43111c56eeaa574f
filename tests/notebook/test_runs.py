"""Verbs on runs: attaching, logs of a worker, resuming, metrics and comparing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from api_world import World
from notebook_shell import Notebook
from run_reports import JobSide, beside, submit

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import watching
from aiaas_magics.client.runs import RunsClient
from aiaas_magics.comparison import Comparison
from aiaas_magics.errors import RunFailed
from aiaas_magics.run import MIME_TYPE, Run
from aiaas_magics.run_metrics import RunMetrics


def a_failed_run(world: World, notebook: Notebook, options: str = "") -> Run:
    run = submit(notebook, options)
    job = JobSide(world, run)
    job.event("started")
    job.event("failed", error={"message": "out of memory", "remedy": "Halve the batch."})
    return aiaas.runs.get(run.id)


def test_attach_without_an_id_takes_the_newest_live_run(world: World, notebook: Notebook) -> None:
    assert "None of your runs goes on" in notebook.refuses("%aiaas attach")
    live = submit(notebook)
    a_failed_run(world, notebook)
    job = JobSide(world, live)
    thread = beside(lambda: (time.sleep(0.3), job.event("started"), job.event("succeeded")))
    assert notebook.run("%aiaas attach").id == live.id
    thread.join()


def test_attaching_late_costs_what_is_shown(
    world: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(notebook)
    job = JobSide(world, run)
    job.event("started")
    for _ in range(3):
        job.step(10_000)
        job.log("a line of the past\n" * 20_000)
    asked: list[dict[str, int]] = []
    follow = RunsClient.watch

    def spy(client: RunsClient, run_id: str, **since: int) -> Iterator[Any]:
        asked.append(since)
        job.step()
        job.log("now\n")
        job.event("succeeded")
        return follow(client, run_id, **since)

    monkeypatch.setattr(RunsClient, "watch", spy)
    feed = watching._Feed(aiaas.runs.get(run.id))
    feed.run()
    updates: list[Any] = []
    while (update := feed.updates.get()) is not None:
        assert not isinstance(update, Exception), update
        updates.append(update)
    past, log, *live = updates
    assert len(past.points) <= 1000
    assert past.total == 30_000
    assert len(log.text) <= 64 * 1024
    assert set(log.text.splitlines()) == {"a line of the past"}
    assert asked == [{"metrics_since": past.next_since, "log_offset": log.next_offset}]
    assert "".join(u.text for u in live if hasattr(u, "text")) == "now\n"
    assert [p.step for u in live if hasattr(u, "points") for p in u.points] == [30_001]
    assert live[-1].state == "succeeded"


def test_a_worker_has_its_own_log(world: World, notebook: Notebook, capsys: Any) -> None:
    run = submit(notebook, "--workers 2")
    job = JobSide(world, run)
    job.event("started")
    job.log("[0] zero\n[aiaas] platform\n[1] one\n[1] tw")
    assert notebook.run(f"%aiaas logs {run.id} --worker 1") == "one\ntw"
    assert run.logs(0) == "zero\n"
    assert "[aiaas] platform" in run.logs()
    thread = beside(lambda: (time.sleep(0.3), job.log("o\n[0] end\n"), job.event("succeeded")))
    notebook.run(f"%aiaas logs {run.id} -f --worker 1")
    thread.join()
    assert "one\ntwo\n" in capsys.readouterr().out
    for verb in (f"logs {run.id} --worker 2", f"logs {run.id} -f --worker 2"):
        assert "There is no worker 2. The run has workers 0 to 1." in notebook.refuses(
            f"%aiaas {verb}"
        )
    assert "no worker 2" in notebook.refuses(f"%aiaas attach {run.id} --worker 2")


def test_a_run_is_resumed_with_other_parameters(world: World, notebook: Notebook) -> None:
    run = a_failed_run(world, notebook, "--param batch_size=64 --param lr=0.1")
    again = notebook.run(f"%aiaas resume {run.id} --param batch_size=32 --detach")
    assert again.id != run.id
    assert again.params == {"batch_size": 32, "lr": 0.1}
    assert again.resumed_from == run.id
    assert run.id in repr(again)
    assert run.resume(lr=0.5).params == {"batch_size": 64, "lr": 0.5}
    with pytest.raises(InvalidInput):
        run.resume(lr=float("nan"))
    # One that goes on has not ended with a checkpoint yet.
    assert again.id in notebook.refuses(f"%aiaas resume {again.id}")


def test_a_failure_says_what_to_type_next(world: World, notebook: Notebook) -> None:
    run = a_failed_run(world, notebook)
    assert run.error == "out of memory. Halve the batch."
    with pytest.raises(RunFailed, match=r"out of memory\. Halve the batch\."):
        run.raise_for_failure()


def test_metrics_are_plotted_from_few_points_and_tabulated_from_all(
    world: World, notebook: Notebook
) -> None:
    run = submit(notebook)
    assert "has reported nothing yet" in repr(notebook.run(f"%aiaas metrics {run.id}"))
    job = JobSide(world, run)
    job.event("started")
    job.step(5000)
    shown: RunMetrics = notebook.run(f"%aiaas metrics {run.id}")
    assert "5,000 reports" in repr(shown)
    assert len(shown.curves["loss"].values) <= 1000
    assert "1 at step 5,000" in shown._html()
    frame = run.metrics()
    assert list(frame["step"]) == list(range(1, 5001))
    assert len(shown.to_pandas()) == 5000


def test_runs_are_compared(world: World, notebook: Notebook) -> None:
    made = []
    for lr, code in ((0.1, "pass"), (0.2, "'<script>'"), (0.2, "'<script>'")):
        cell = f"def train(ctx):\n    {code}\n"
        run = notebook.run(f"%%aiaas train --name cnn --detach --param lr={lr} --param n=3\n{cell}")
        job = JobSide(world, run)
        job.event("started")
        job.step(5, loss=lr)
        made.append(run)
    shown: Comparison = notebook.run(f"%aiaas runs --compare {' '.join(run.id for run in made)}")
    assert shown.params == {"lr": [0.1, 0.2, 0.2], "n": [3, 3, 3]}
    assert list(shown.params) == ["lr", "n"]
    assert shown.metrics == {"loss": [0.1, 0.2, 0.2]}
    assert "-    pass" in shown.code()
    assert "+    '<script>'" in shown.code()
    html, text = shown._html(), repr(shown)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<img" in html
    assert "* lr" in text
    assert all(run.id in text for run in made)
    alike = aiaas.runs.compare(made[1], made[2].id)
    assert alike.code() == ""
    assert "The code is the same." in repr(alike)
    assert "1 run is not compared" in notebook.refuses(f"%aiaas runs --compare {made[0].id}")
    with pytest.raises(InvalidInput, match="named twice"):
        aiaas.runs.compare(made[0], made[0].id)


def test_runs_are_compared_with_the_versions_of_their_data(
    world: World, notebook: Notebook
) -> None:
    world.dataset(rows=5)
    world.dataset("labels")
    older = submit(notebook, "--dataset digits --dataset labels")
    world.dataset(rows=6)
    newer, pinned = submit(notebook, "--dataset digits"), submit(notebook, "--dataset digits@1")
    shown: Comparison = notebook.run(f"%aiaas runs --compare {older.id} {newer.id} {pinned.id}")
    (row,) = [line for line in repr(shown).splitlines() if line.strip().startswith("datasets")]
    assert re.findall(r"alice/(\S+?)(,?)(?= )", f"{row} ") == [
        ("digits@1", ","),
        ("labels@1", ""),
        ("digits@2", ""),
        ("digits@1", ""),
    ]
    # What is not the first one's stands out.
    assert "<b>alice/digits@2</b>" in shown._html()
    assert "<b>alice/digits@1, " not in shown._html()


def test_a_runs_display_can_be_found_again(world: World, notebook: Notebook) -> None:
    run = submit(notebook)
    data = run._repr_mimebundle_()
    assert data[MIME_TYPE] == {"run": run.id, "version": 1}
    # What the cell shows already is not shown twice.
    notebook.shell.user_ns["run"] = run
    run.shown_here()
    assert MIME_TYPE not in run._repr_mimebundle_()
    notebook.run("x = 1")
    assert MIME_TYPE in run._repr_mimebundle_()


def test_pain_a_failure_shown_as_completed(world: World, notebook: Notebook) -> None:
    """Whatever the log says last, and however quietly the job goes away."""
    run = submit(notebook)
    job = JobSide(world, run)
    job.event("started")
    job.log("Done! Training completed successfully.\n")
    job.event("failed", error={"message": "the model was not saved"})
    assert "failed: the model was not saved" in notebook.refuses(f"%aiaas attach {run.id}")
    assert aiaas.runs.get(run.id).state == "failed"


def test_pain_pending_and_no_reason(world: World, notebook: Notebook) -> None:
    world.training.ready = False
    run = submit(notebook)
    world.tick()
    shown = repr(aiaas.runs.get(run.id))
    assert "queued" in shown
    (now,) = [line for line in shown.splitlines() if line.strip().startswith("now:")]
    assert "in the queue: Ray is starting" in now
