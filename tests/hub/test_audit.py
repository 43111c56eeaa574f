"""What the real hub tells the audit log: sign-ins, servers, what is changed in the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from running_platform import RunningPlatform

from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.schemas.errors import Unauthenticated

pytestmark = pytest.mark.platform

NASTY = "audited<'&\">"


def aiaas(platform: RunningPlatform, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aiaas_hub.cli", *words],
        env={**os.environ, "AIAAS_HOME": str(platform.home.root)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def entries(platform: RunningPlatform, **fields: str) -> list[dict[str, Any]]:
    exported = aiaas(platform, "audit", "export")
    assert exported.returncode == 0, exported.stderr
    found = [json.loads(line) for line in exported.stdout.splitlines()]
    return [one for one in found if all(one[name] == value for name, value in fields.items())]


def awaited(platform: RunningPlatform, count: int, **fields: str) -> list[dict[str, Any]]:
    """The service takes in once a second what the hub told."""
    deadline = time.monotonic() + 60
    while len(found := entries(platform, **fields)) < count and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(found) >= count, (fields, entries(platform))
    return found


def test_sign_ins_servers_and_admin_acts_are_recorded(platform: RunningPlatform) -> None:
    with (
        HubSession(platform.url, "nobody-here") as wrong,
        pytest.raises(Unauthenticated),
    ):
        wrong.sign_in("canary-wrong-password")
    with platform.session(NASTY) as session:
        session.spawn("small")
        session.http.get("/hub/home").raise_for_status()
        xsrf = {"X-XSRFToken": session.xsrf("/hub/")}
        name = session.server_path.removeprefix("/user/")
        refused = session.http.post("/hub/api/users/eve", headers=xsrf)
        assert refused.status_code == 403
        session.http.delete(f"/hub/api/users/{name}/server", headers=xsrf).raise_for_status()
        session.http.get("/hub/logout").raise_for_status()
    [sign_in] = awaited(platform, 1, act="sign-in", owner=NASTY)
    assert (sign_in["outcome"], sign_in["via"], sign_in["origin"]) == ("done", "hub", "127.0.0.1")
    # A name that nobody here has is not recorded: people type passwords there, too.
    awaited(platform, 1, act="sign-in", outcome="refused", actor="")
    [start] = awaited(platform, 1, act="server start", owner=NASTY)
    assert start["detail"]["profile"] == "small"
    awaited(platform, 1, act="server stop", owner=NASTY)
    awaited(platform, 1, act="sign-out", owner=NASTY)
    [tried] = awaited(platform, 1, object="users/eve", outcome="refused")
    assert tried["actor"] == NASTY
    verified = aiaas(platform, "audit", "verify")
    assert verified.returncode == 0, verified.stdout
    head = verified.stdout.rpartition("Head: ")[2].strip()
    assert aiaas(platform, "audit", "verify", "--head", head).returncode == 0
    text = json.dumps(entries(platform))
    for secret in ("canary-wrong-password", platform.facts["user_password"], "nobody-here"):
        assert secret not in text
