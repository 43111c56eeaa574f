"""Which servers are idle for too long, and which are not idle at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub_idle_culler import IdleCuller
from traitlets.config.loader import PyFileConfigLoader

from aiaas_hub.local.shipped import shipped
from aiaas_hub.spawner.culling import arbiter, wants_culler
from aiaas_magics.lab.activity import Activity

PROFILES = """
profiles:
  - {slug: small, name: S, description: d, cpus: 1, memory: 1G, default: true, idle_limit: 60m}
  - {slug: large, name: L, description: d, cpus: 4, memory: 1G}
"""


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    path = tmp_path / "profiles.yaml"
    path.write_text(PROFILES)
    return path


@pytest.mark.parametrize(
    ("options", "minutes", "stopped"),
    [
        ({"profile": "small"}, 59, False),
        ({"profile": "small"}, 60, True),
        ({}, 61, True),  # the default profile
        (None, 61, True),
        ({"profile": "large"}, 100_000, False),
        ({"profile": "gone"}, 100_000, False),
    ],
)
def test_a_profile_says_when_its_servers_are_stopped(
    profiles: Path, options: Any, minutes: int, stopped: bool
) -> None:
    may_stop = arbiter(profiles)
    server = {"name": "", "user_options": options}
    inactive = timedelta(minutes=minutes)
    assert may_stop(inactive=inactive, inactive_limit=1, server=server) is stopped
    assert not may_stop(inactive=None, inactive_limit=1, server=server)


def test_without_a_file_nobody_is_stopped(profiles: Path) -> None:
    profiles.write_text("profiles: [")
    server = {"user_options": {"profile": "small"}}
    assert not arbiter(profiles)(inactive=timedelta(days=9), inactive_limit=1, server=server)
    assert not wants_culler(profiles)


def test_the_cullers_configuration_asks_this(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIAAS_PROFILES", str(profiles))
    loader = PyFileConfigLoader("idle_culler_config.py", path=str(shipped("hub_config")))
    hook = IdleCuller(config=loader.load_config()).cull_arbiter_hook
    server = {"user_options": {"profile": "small"}}
    assert hook(inactive=timedelta(hours=2), inactive_limit=600, server=server)
    assert not hook(inactive=timedelta(minutes=2), inactive_limit=60, server=server)
    assert wants_culler(profiles)


class Kernels(dict[str, str]):
    def list_kernel_ids(self) -> list[str]:
        return list(self)

    def get_kernel(self, kernel: str) -> SimpleNamespace:
        return SimpleNamespace(execution_state=self[kernel])


def test_pain_a_culler_that_does_not_know_of_attached_runs() -> None:
    """A cell that waits for its run keeps its kernel busy, and a page that follows one a stream."""
    settings: dict[str, Any] = {"kernel_manager": Kernels(a="idle"), "last_activity_times": {}}
    assert not Activity(settings).note()
    assert not settings["last_activity_times"]
    assert Activity(settings, lambda: 1).note()
    settings["last_activity_times"].clear()
    settings["kernel_manager"]["b"] = "busy"
    assert Activity(settings).note()
    [at] = settings["last_activity_times"].values()
    assert datetime.now(UTC) - at < timedelta(minutes=1)
