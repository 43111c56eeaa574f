"""Runs over HTTP: submitting, what the job reports, and every way to end."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from api_world import PREFIX, World, events

import aiaas_hub.domain.advancing
from aiaas_hub.domain.advancing import FREE_STARTS
from aiaas_hub.domain.ports import JobState, JobStatus


def job(world: World, run: Any, method: str, path: str, token: str, **kwargs: Any) -> Any:
    return world.call(method, f"/runs/{run['id']}/job{path}", token, **kwargs)


def test_a_run_from_queued_to_succeeded(world: World) -> None:
    world.dataset()
    world.training.ready = False
    run = world.submit(datasets=["digits"], params={"lr": 0.1})
    assert (run["state"], run["reason"]) == ("queued", "Ray is starting")
    assert run["datasets"] == [{"owner": "alice", "name": "digits", "version": 1}]
    world.training.ready = True
    token = world.run_token(run)
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "starting"

    described = job(world, run, "GET", "", token).json()
    assert described["params"] == {"lr": 0.1}
    assert job(world, run, "GET", "/snapshot", token).content == b"a snapshot"
    assert job(world, run, "GET", "/datasets/0/data", token).content.startswith(b"PAR1")
    assert job(world, run, "POST", "/events", token, json={"kind": "started"}).status_code == 204
    points = [{"step": i, "time": 1.0 + i, "values": {"loss": 1.0 / (i + 1)}} for i in range(3)]
    for _ in range(2):  # a repeat is harmless
        body = {"sequence": 0, "points": points}
        assert job(world, run, "POST", "/metrics", token, json=body).status_code == 204
    log = {"offset": 0, "text": "héllo\n"}
    assert job(world, run, "POST", "/log", token, json=log).status_code == 204
    assert job(world, run, "POST", "/log", token, json=log).status_code == 204
    for name in ("onnx", "rows"):
        assert world.call("POST", "/blobs", token, content=name.encode()).status_code == 200
    handed = world.hand_over()
    first = job(world, run, "PUT", "/model", token, json=handed).json()
    assert job(world, run, "PUT", "/model", token, json=handed).json() == first
    assert job(world, run, "POST", "/events", token, json={"kind": "succeeded"}).status_code == 204

    seen = world.ok("GET", f"/runs/{run['id']}")
    assert seen["state"] == "succeeded"
    assert seen["model"] == {"owner": "alice", "name": "cnn", "version": 1}
    assert seen["last_metrics"] == {"loss": pytest.approx(1 / 3)}
    metrics = world.ok("GET", f"/runs/{run['id']}/metrics")
    assert [point["step"] for point in metrics["points"]] == [0, 1, 2]
    assert world.ok("GET", f"/runs/{run['id']}/metrics?since={metrics['next_since']}") == {
        "points": [],
        "next_since": 3,
        "total": None,
    }
    chunk = world.ok("GET", f"/runs/{run['id']}/logs")
    assert chunk == {"text": "héllo\n", "next_offset": 7, "complete": True}
    stream = events(world.call("GET", f"/runs/{run['id']}/events").text)
    assert [name for name, _ in stream] == ["run", "metrics", "log", "end"]
    assert stream[-1][1]["state"] == "succeeded"
    lineage = world.ok("GET", f"/runs/{run['id']}/lineage")
    assert lineage["run"]["snapshot"]["source"] == "def train(ctx): ..."
    # Its token is worth nothing any more.
    assert job(world, run, "GET", "", token).status_code == 409


def test_a_metric_may_be_no_number(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    values = {"loss": "nan", "norm": "inf", "low": "-inf", "fine": 1.5}
    body = {"sequence": 0, "points": [{"step": 0, "time": 1.0, "values": values}]}
    assert job(world, run, "POST", "/metrics", token, json=body).status_code == 204
    assert world.ok("GET", f"/runs/{run['id']}/metrics")["points"][0]["values"] == values
    assert world.ok("GET", f"/runs/{run['id']}")["last_metrics"] == values


def test_the_same_key_submits_once(world: World) -> None:
    digest = world.upload(b"a snapshot")
    body = {
        "name": "cnn",
        "snapshot": {"digest": digest, "python": aiaas_hub.app.PYTHON, "client": "0"},
    }
    headers = {"Idempotency-Key": "the-same-key"}
    first = world.ok("POST", "/runs", json=body, headers=dict(headers))
    assert world.ok("POST", "/runs", json=body, headers=dict(headers))["id"] == first["id"]
    other = world.upload(b"a snapshot", "user:bob")
    assert other == digest
    theirs = world.ok("POST", "/runs", "user:bob", json=body, headers=dict(headers))
    assert theirs["id"] != first["id"]
    assert [run["id"] for run in world.ok("GET", "/runs")["items"]] == [first["id"]]


def test_failure_carries_its_explanation(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    error = {"message": "Out of memory.", "remedy": "Take a smaller batch.", "traceback": "line 3"}
    event = {"kind": "failed", "error": error}
    assert job(world, run, "POST", "/events", token, json=event).status_code == 204
    seen = world.ok("GET", f"/runs/{run['id']}")
    assert (seen["state"], seen["error"]) == ("failed", error)
    # A terminal state is never left.
    late = job(world, run, "POST", "/events", token, json={"kind": "succeeded"})
    assert late.status_code == 409
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "failed"


def test_cancel_while_queued_and_while_running(world: World) -> None:
    world.training.ready = False
    queued = world.submit()
    world.ok("POST", f"/runs/{queued['id']}/cancel")
    world.tick()
    assert world.ok("GET", f"/runs/{queued['id']}")["state"] == "cancelled"
    world.training.ready = True
    running = world.submit()
    token = world.run_token(running)
    assert job(world, running, "POST", "/events", token, json={"kind": "started"}).is_success
    assert world.ok("POST", f"/runs/{running['id']}/cancel")["reason"] == "cancelling"
    world.tick(2)
    assert world.ok("GET", f"/runs/{running['id']}")["state"] == "cancelled"
    assert world.training.stopped == [f"{running['id']}-1"]
    assert world.training.submissions[-1].id == f"{running['id']}-1"


def test_success_is_never_inferred_from_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiaas_hub.domain.advancing, "REPORT_GRACE", timedelta(0))
    run = world.submit()
    world.run_token(run)
    world.training.jobs[f"{run['id']}-1"] = JobStatus(JobState.ENDED)
    world.tick(2)
    seen = world.ok("GET", f"/runs/{run['id']}")
    assert seen["state"] == "failed"
    assert "without reporting" in seen["error"]["message"]


def test_pain_heavy_logging_slows_the_job_api(world: World) -> None:
    """Others are answered while it lasts, and not a line of it is lost."""
    run = world.submit()
    token = world.run_token(run)
    lines = [f"step {number} loss 0.125\n" for number in range(10_000)]
    under_way, answered = threading.Event(), threading.Event()
    refused: list[str] = []

    def flood() -> None:
        offset = 0
        for start in range(0, len(lines), 500):
            if start == len(lines) // 2:
                # The second half is not sent before another one was answered in between.
                under_way.set()
                answered.wait(60)
            text = "".join(lines[start : start + 500])
            answer = job(world, run, "POST", "/log", token, json={"offset": offset, "text": text})
            if not answer.is_success:
                refused.append(answer.text)
            offset += len(text)

    with ThreadPoolExecutor() as pool:
        flooding = pool.submit(flood)
        assert under_way.wait(60)
        found = [item["id"] for item in world.ok("GET", "/runs")["items"]]
        answered.set()
        while not flooding.done():
            assert world.ok("GET", "/runs")["items"][0]["id"] == run["id"]
        flooding.result()
    assert found == [run["id"]]
    assert refused == []
    text, offset = "", 0
    while (chunk := world.ok("GET", f"/runs/{run['id']}/logs?offset={offset}"))["text"]:
        text, offset = text + chunk["text"], chunk["next_offset"]
    assert text == "".join(lines)


def test_pain_logs_lost_with_the_head(world: World) -> None:
    """They are the platform's, and are read when there is no Ray at all."""
    run = world.submit()
    token = world.run_token(run)
    log = {"offset": 0, "text": "step 1\nstep 2\n"}
    assert job(world, run, "POST", "/events", token, json={"kind": "started"}).is_success
    assert job(world, run, "POST", "/log", token, json=log).is_success
    world.training.jobs.clear()
    world.tick(2)
    world.training.ready = False
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "lost"
    chunk = world.ok("GET", f"/runs/{run['id']}/logs")
    assert (chunk["text"], chunk["complete"]) == ("step 1\nstep 2\n", True)


def test_a_lost_head_ends_in_lost_or_a_new_attempt(world: World) -> None:
    once, again = world.submit(), world.submit(retries=1)
    first = world.run_token(again)
    for run, token in ((once, world.run_token(once)), (again, first)):
        assert job(world, run, "POST", "/events", token, json={"kind": "started"}).is_success
    body = {"sequence": 0, "points": [{"step": 0, "time": 1.0, "values": {"loss": 1.0}}]}
    assert job(world, again, "POST", "/metrics", first, json=body).is_success
    assert job(world, again, "POST", "/log", first, json={"offset": 0, "text": "one\n"}).is_success
    world.training.jobs.clear()
    world.tick(2)
    assert world.ok("GET", f"/runs/{once['id']}")["state"] == "lost"
    seen = world.ok("GET", f"/runs/{again['id']}")
    assert (seen["state"], seen["attempt"]) == ("starting", 2)
    # The first attempt's token is worth nothing; the second's goes on behind what is there.
    assert job(world, again, "POST", "/metrics", first, json=body).status_code == 409
    second = world.training.submissions[-1].token
    assert job(world, again, "POST", "/metrics", second, json=body).is_success
    assert job(world, again, "POST", "/log", second, json={"offset": 0, "text": "two\n"}).is_success
    assert len(world.ok("GET", f"/runs/{again['id']}/metrics")["points"]) == 2
    between = (
        "[aiaas] Attempt 1 was lost: The Ray head that ran this was lost. "
        "Going on from its checkpoint (retry 1 of 1)."
    )
    assert world.ok("GET", f"/runs/{again['id']}/logs")["text"] == f"one\n{between}\ntwo\n"
    assert job(world, again, "POST", "/events", second, json={"kind": "started"}).is_success
    world.training.jobs.clear()
    world.tick()
    assert world.ok("GET", f"/runs/{again['id']}")["state"] == "lost"


def test_a_head_that_dies_before_a_run_has_begun_costs_no_run(world: World) -> None:
    run = world.submit()
    world.tick()
    for attempt in range(1, 2 + FREE_STARTS):
        shown = world.ok("GET", f"/runs/{run['id']}")
        assert (shown["state"], shown["attempt"]) == ("starting", attempt)
        world.training.jobs.clear()
        world.tick()
    # Not for ever: it may be what makes the head fall.
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "lost"


def test_killed_between_intent_and_submit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent is written, the service dies: after the restart exactly one job."""
    run = world.submit()

    def dies(job: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(world.training, "submit", dies)
        with pytest.raises(SystemExit):
            world.tick()
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "starting"
    world.tick(3)
    assert [job.id for job in world.training.submissions] == [f"{run['id']}-1"]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"name": "../etc"}, 400, "valid name"),
        ({"name": "a\nb"}, 400, "valid name"),
        ({"name": "<script>"}, 400, "valid name"),
        ({"name": "x" * 300}, 400, "64 characters"),
        ({"datasets": ["nothing"]}, 404, "no dataset"),
        ({"datasets": ["bob/secret"]}, 404, "no dataset"),
        ({"resources": {"workers": 0}}, 400, "workers"),
        ({"params": {"seed": 2**60}}, 400, "too large to be exact"),
        ({"params": {"text": "x" * 10_001}}, 400, "10000 characters"),
        ({"snapshot": {"digest": "0" * 64, "python": "2.7", "client": "0"}}, 400, "Python 2.7"),
        ({"snapshot": {"digest": "0" * 64, "python": "PY", "client": "0"}}, 404, "snapshot"),
    ],
)
def test_bad_input_changes_nothing(
    world: World, changes: dict[str, Any], status: int, words: str
) -> None:
    world.dataset("secret", "user:bob")
    if "snapshot" in changes and changes["snapshot"]["python"] == "PY":
        changes["snapshot"]["python"] = aiaas_hub.app.PYTHON
    digest = world.upload(b"a snapshot")
    body = {
        "name": "cnn",
        "snapshot": {"digest": digest, "python": aiaas_hub.app.PYTHON, "client": "0"},
        **changes,
    }
    response = world.call("POST", "/runs", json=body)
    assert response.status_code == status, response.text
    assert words in response.json()["error"]["message"]
    assert world.ok("GET", "/runs")["items"] == []


def test_a_run_token_is_of_its_run_alone(world: World) -> None:
    mine, theirs = world.submit(), world.submit("user:bob")
    token = world.run_token(mine)
    assert job(world, theirs, "GET", "", token).status_code == 401
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert job(world, mine, "GET", "", forged).status_code == 401
    # Nor is it a user's token.
    assert world.call("GET", "/runs", token).status_code == 401


def test_one_run_that_cannot_be_advanced_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned, fine = world.submit(), world.submit()
    submit = world.training.submit

    def refuse(submission: Any) -> None:
        if submission.id.startswith(poisoned["id"]):
            raise RuntimeError("poisoned")
        submit(submission)

    monkeypatch.setattr(world.training, "submit", refuse)
    world.tick()
    assert [job.id for job in world.training.submissions] == [f"{fine['id']}-1"]


def test_a_retried_run_has_its_last_attempts_model(world: World) -> None:
    run = world.submit(retries=1)
    first = world.run_token(run)
    assert job(world, run, "PUT", "/model", first, json=world.hand_over()).is_success
    world.training.jobs.clear()
    world.tick(2)
    second = world.training.submissions[-1].token
    better = world.hand_over(onnx=b"better")
    assert job(world, run, "PUT", "/model", second, json=better).json()["version"] == 2
    assert world.ok("GET", f"/runs/{run['id']}")["model"]["version"] == 2


def test_users_wait_for_their_own_runs_to_end(world: World) -> None:
    runs = [world.submit() for _ in range(5)]
    theirs = world.submit("user:bob")
    world.tick()
    states = [world.ok("GET", f"/runs/{run['id']}") for run in runs]
    assert [run["state"] for run in states] == ["starting"] * 4 + ["queued"]
    assert states[-1]["reason"] == "waits for one of your 4 runs to end"
    assert world.ok("GET", f"/runs/{theirs['id']}", "user:bob")["state"] == "starting"
    world.ok("POST", f"/runs/{runs[0]['id']}/cancel")
    world.tick(3)
    assert world.ok("GET", f"/runs/{runs[-1]['id']}")["state"] == "starting"


def test_watching_a_loss_that_is_no_number_is_quiet(world: World) -> None:
    """NaN is unequal to itself: a run with one must not look changed for ever."""
    run = world.submit()
    token = world.run_token(run)
    point = {"step": 0, "time": 1.0, "values": {"loss": "nan"}}
    assert job(world, run, "POST", "/metrics", token, json={"sequence": 0, "points": [point]})
    seen = watch(world, run, seconds=2)
    assert [line for line in seen if line.startswith("event:")] == ["event: run", "event: metrics"]


def test_what_a_quiet_run_has_said_comes_at_once(world: World) -> None:
    """However many pages it fills: nothing changes that would wake the stream for the next."""
    run = world.submit()
    token = world.run_token(run)
    page = "x" * 999_999 + "\n"
    for number in range(3):
        piece = {"offset": number * len(page), "text": page}
        assert job(world, run, "POST", "/log", token, json=piece)
    points = [{"step": step, "time": 1.0, "values": {"loss": 1.0}} for step in range(5_000)]
    for sequence in range(0, 15_000, len(points)):
        assert job(
            world, run, "POST", "/metrics", token, json={"sequence": sequence, "points": points}
        )
    seen = watch(world, run, seconds=2)
    log, count = "", 0
    for event, data in itertools.pairwise(seen):
        body = data.removeprefix("data: ")
        if event == "event: log":
            log += json.loads(body)["text"]
        elif event == "event: metrics":
            count += len(json.loads(body)["points"])
    assert log == page * 3
    assert count == 15_000


def test_a_stream_ends_with_its_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiaas_hub.api.live.REIDENTIFY_SECONDS", 0.0)
    run = world.submit()
    world.identity.revoked.add("user:alice")
    world.identity.grace = 2  # it held when the stream began
    assert watch(world, run, seconds=10, ends=True)[0] == "event: run"


def watch(world: World, run: Any, *, seconds: float, ends: bool = False) -> list[str]:
    """What the run's stream sends until it is silent for so long, or ends."""
    lines: list[str] = []
    with world.client.stream(
        "GET",
        f"{PREFIX}api/v1/runs/{run['id']}/events",
        headers={"Authorization": "Bearer user:alice"},
        timeout=httpx.Timeout(5, read=seconds),
    ) as answer:
        expected = contextlib.nullcontext() if ends else pytest.raises(httpx.ReadTimeout)
        with expected:
            for line in answer.iter_lines():
                lines.append(line)
    return lines
