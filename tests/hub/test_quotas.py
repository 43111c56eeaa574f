"""A run whose owner's hours run out, on the real platform: it saves, ends, and is gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from running_platform import RunningPlatform
from service_calls import ServiceCalls, until

pytestmark = pytest.mark.platform

SAVES_WHEN_ASKED = """
import time

def train(ctx):
    step = (ctx.restore() or {"step": 0})["step"]
    print("from", step, flush=True)
    while step < ctx.params["steps"] and not ctx.should_stop:
        step += 1
        ctx.report(step=step, loss=1.0 / step)
        time.sleep(0.25)
    ctx.checkpoint(step=step)
    print("saved at", step, flush=True)
"""


@pytest.fixture
def thrifty(platform: RunningPlatform) -> Iterator[ServiceCalls]:
    yield ServiceCalls.of(platform, "thrifty")
    (platform.home.root / "quotas.yaml").unlink(missing_ok=True)


def allow(platform: RunningPlatform, hours: float) -> None:
    # Nobody else's tests are held to it.
    text = f"users: {{thrifty: {{worker_hours: {hours}}}}}\n"
    (platform.home.root / "quotas.yaml").write_text(text)


def log(calls: ServiceCalls, run: str) -> str:
    return str(calls.ok("GET", f"/runs/{run}/logs")["text"])


def test_a_run_out_of_hours_saves_ends_and_is_gone_on_with(
    platform: RunningPlatform, thrifty: ServiceCalls
) -> None:
    allow(platform, 100)
    run = thrifty.submit(SAVES_WHEN_ASKED, params={"steps": 2000})
    until(lambda: thrifty.call("GET", f"/runs/{run}/metrics"), lambda found: found["points"], 120)
    allow(platform, 0.0001)  # less than it has used by now
    ended: Any = thrifty.run_until(run, "succeeded", "failed")
    assert ended["state"] == "succeeded", ended["error"]
    assert "worker-hours of this month" in ended["reason"]
    said = log(thrifty, run)
    assert "stopping: the run was asked to" in said
    step = int(said.rpartition("saved at ")[2].split()[0])
    assert 0 < step < 2000

    refused = thrifty.call("POST", f"/runs/{run}/resume", json={})
    assert refused.status_code == 403
    assert "worker-hours" in refused.json()["error"]["message"]
    [allowance] = thrifty.ok("GET", "/quotas")
    assert allowance["used"] >= allowance["limit"]
    [line] = thrifty.ok("GET", "/usage?by=run")["lines"]
    assert line["key"] == run
    assert line["cost"] == 0  # the shipped profiles have no prices

    allow(platform, 100)
    resumed = thrifty.ok("POST", f"/runs/{run}/resume", json={"params": {"steps": step + 2}})["id"]
    thrifty.run_until(resumed, "succeeded")
    assert f"from {step}" in log(thrifty, resumed)
    acts = {one["act"] for one in thrifty.ok("GET", f"/audit?object=runs/{run}")["items"]}
    assert {"stop_run", "resume_run", "report_job_event"} <= acts
