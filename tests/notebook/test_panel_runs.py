"""The run monitor's view-model on the real service, with no page before it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from api_world import World
from notebook_shell import Notebook
from run_reports import JobSide, submit

import aiaas_magics as aiaas
from aiaas_hub.schemas.runs import RunState
from aiaas_magics import run as run_module
from aiaas_magics.panels import attention
from aiaas_magics.panels.background import AtOnce
from aiaas_magics.panels.run_monitor import RunMonitor
from aiaas_magics.panels.run_monitor_form import run_monitor_form

HOSTILE = "<img src=x onerror=alert(1)>"


class Clock(AtOnce):
    """Calls what was left for later when the test says that it is later."""

    def __init__(self) -> None:
        self.waiting: dict[str, Any] = {}

    def later(self, slot: str, seconds: float, call: Any) -> None:
        self.waiting[slot] = call

    def tick(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for call in waiting.values():
            call()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(world: World, clock: Clock) -> RunMonitor:
    model: RunMonitor = aiaas.panel("runs").model
    model.beside = clock
    model.refresh()
    return model


def test_a_run_is_listed_chosen_and_followed_to_its_end(
    world: World, notebook: Notebook, monitor: RunMonitor, clock: Clock
) -> None:
    assert "%%aiaas train" in monitor.empty
    run = submit(notebook)
    clock.tick()
    ((line, run_id),) = monitor.runs
    assert run_id == run.id
    assert line.startswith("queued  ·  cnn")
    monitor.choose(run.id)
    assert "queue" in monitor.card
    assert monitor.live

    job = JobSide(world, run)
    job.event("started")
    job.step(5)
    job.log(f"a line {HOSTILE}\n")
    clock.tick()
    assert "running" in monitor.card
    assert "step 5" in monitor.card
    assert "by step" in monitor.card
    assert HOSTILE not in monitor.card
    assert "&lt;img" in monitor.card
    # It is no cell that waits here.
    assert "Interrupt" not in monitor.card
    job.step(5)
    job.log("another\n")
    clock.tick()
    assert "step 10" in monitor.card
    assert monitor.card.count("another") == 1
    assert monitor._place is not None
    assert len(monitor._place.view.curves["loss"].values) == 10
    assert monitor.command == ""

    error = {"message": "It broke", "remedy": "Mend it."}
    job.event("failed", error={**error, "traceback": "line 3"})
    clock.tick()
    assert "failed" in monitor.card
    assert not monitor.live
    assert monitor.command == f"%aiaas resume {run.id}"
    # What is over is not asked for again; the list is.
    assert set(clock.waiting) == {"runs"}
    # Nor does what one looked at before come back.
    going = submit(notebook)
    monitor.choose(going.id)
    assert going.id in monitor.card
    monitor.choose(run.id)
    clock.tick()
    assert run.id in monitor.card


def test_pain_panel_and_notebook_see_different_state(
    world: World,
    notebook: Notebook,
    monitor: RunMonitor,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What happens elsewhere, to a run or by somebody's hand, is the same wherever one looks."""
    # A loop that asks a run may be told what was so half a second ago; a test is too quick for it.
    monkeypatch.setattr(run_module, "_FRESH_SECONDS", 0.0)
    held = submit(notebook)
    clock.tick()
    monitor.choose(held.id)

    def seen() -> dict[str, str]:
        clock.tick()
        ((line, _),) = monitor.runs
        listed, shown = notebook.run("%aiaas runs"), notebook.run(f"%aiaas run {held.id}")
        (row,) = [row for row in repr(listed).splitlines() if held.id in row]
        said = {
            "panel's list": line,
            "panel's card": re.sub("<[^>]*>", " ", monitor.card),
            "%aiaas runs": row,
            "%aiaas run": repr(shown).splitlines()[0],
            "object": held.state,
            "service": world.ok("GET", f"/runs/{held.id}")["state"],
        }
        # One word each: of the states that there are, the first that is said.
        return {where: re.findall("|".join(RunState), text)[0] for where, text in said.items()}

    def all_say(state: str) -> None:
        found = seen()
        assert set(found.values()) == {state}, found

    all_say("queued")
    job = JobSide(world, held)
    all_say("starting")
    job.event("started")
    all_say("running")
    world.ok("POST", f"/runs/{held.id}/cancel")
    world.tick()
    all_say("cancelled")


def test_cancel_asks_back(
    world: World, notebook: Notebook, monitor: RunMonitor, clock: Clock
) -> None:
    run = submit(notebook)
    clock.tick()
    monitor.choose(run.id)
    monitor.cancel()
    assert run.id in monitor.question
    assert run.state == "queued"
    monitor.decline()
    assert monitor.question == ""
    monitor.confirm()
    assert run.refresh(always=True).state == "queued"
    monitor.cancel()
    monitor.confirm()
    assert "asked to stop" in monitor.note
    world.tick()
    clock.tick()
    assert monitor.note == ""
    assert run.refresh(always=True).state == "cancelled"
    assert not monitor.live
    monitor.cancel()
    assert monitor.question == ""


def test_nobody_looks_and_nothing_is_asked_for(
    world: World,
    notebook: Notebook,
    monitor: RunMonitor,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = submit(notebook)
    monitor.refresh()
    monitor.choose(run.id)
    monitor.seen(False)
    clock.tick()
    assert monitor.paused
    assert not clock.waiting
    submit(notebook)
    monitor.seen(True)
    assert not monitor.paused
    assert len(monitor.runs) == 2
    assert set(clock.waiting) == {"runs", "run"}
    # A page that was closed cannot say so.
    monkeypatch.setattr(attention, "PATIENCE", 0.0)
    clock.tick()
    assert monitor.paused


def test_only_some_and_what_goes_wrong(
    world: World,
    notebook: Notebook,
    monitor: RunMonitor,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = submit(notebook)
    monitor.filter("running")
    assert monitor.runs == []
    assert monitor.empty == "None of your runs is running."
    monitor.filter("")
    monitor.choose("run-of-nobody")
    assert "no such run" in monitor.error
    monitor.choose(run.id)
    assert monitor.error == ""
    with monkeypatch.context() as broken:
        broken.setattr(monitor._client.runs, "get", lambda _: 1 / 0)
        broken.setattr(monitor, "_list", lambda: None)
        clock.tick()
        assert "ZeroDivisionError" in monitor.error
    # It goes on as soon as it can.
    clock.tick()
    assert monitor.error == ""
    panel = aiaas.panel("runs")
    assert f"%aiaas attach {run.id}" in repr(panel)
    assert "<td" in str(panel._repr_mimebundle_()["text/html"])


def test_a_sweep_is_followed_as_well(
    world: World, notebook: Notebook, monitor: RunMonitor, clock: Clock
) -> None:
    sweep = notebook.run(
        "%%aiaas sweep --name many --param lr=log:1e-4:1e-1 --trials 3 --metric loss --detach\n"
        "def train(ctx):\n    pass\n"
    )
    clock.tick()
    monitor.choose(sweep.id)
    assert "0 of 3 trials" in monitor.card
    assert "Interrupt" not in monitor.card
    monitor.cancel()
    assert "with all its trials" in monitor.question


def test_the_form_is_the_model(
    world: World, notebook: Notebook, monitor: RunMonitor, clock: Clock
) -> None:
    runs = [submit(notebook), submit(notebook)]
    form = run_monitor_form(monitor)
    clock.tick()
    eye, _, _, top, listed, empty, card, _, bottom, question = form.children
    assert [run for _, run in listed.options] == [runs[1].id, runs[0].id]
    assert listed.value is None
    assert empty.layout.display == "none"
    assert monitor.chosen == ""
    listed.value = runs[0].id
    assert monitor.chosen == runs[0].id
    assert runs[0].id in card.value
    # Lines change under it, and the choice stays.
    world.run_token({"id": runs[0].id})
    clock.tick()
    assert listed.value == monitor.chosen == runs[0].id
    bottom.children[0].click()
    assert question.layout.display == ""
    question.children[1].children[0].click()
    assert question.layout.display == "none"
    world.tick()
    assert runs[0].refresh(always=True).state == "cancelled"
    eye._handle_custom_msg({"seen": False}, [])
    eye._handle_custom_msg("nonsense", [])
    clock.tick()
    assert monitor.paused
    top.children[1].click()
    assert monitor.error == ""
