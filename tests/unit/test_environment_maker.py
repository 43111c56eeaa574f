"""Triton's environment when it cannot be made: said at once, and not tried again at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_local import TritonLocal, environment
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import Unavailable


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine that has libpython, without the environment and without a network."""
    made: list[str] = []

    def fail(progress: environment.Progress) -> environment.ServingEnvironment:
        made.append("")
        raise Unavailable("No network.", remedy="Get one.")

    monkeypatch.setattr(environment, "check_platform", lambda: Path("/lib"))
    monkeypatch.setattr(environment, "find", lambda: None)
    monkeypatch.setattr(environment, "make", fail)
    return made


def test_a_failed_installation_is_left_alone_for_a_while(
    attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = environment.EnvironmentMaker(lambda text: None)
    maker.require()
    for _ in range(3):
        with pytest.raises(Unavailable, match="No network"):
            maker.get()
    assert len(attempts) == 1
    with pytest.raises(Unavailable, match="Get one"):
        maker.require()
    monkeypatch.setattr(maker, "_make_again_at", 0.0)
    maker.require()
    with pytest.raises(Unavailable, match="No network"):
        maker.get()
    assert len(attempts) == 2


def test_publishing_is_refused_where_triton_cannot_run(
    tmp_path: Path, attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_wheel() -> Path:
        raise Unavailable("Triton has no package for this.", remedy="Use another machine.")

    home = Home(tmp_path)
    engine = TritonLocal(home, Supervisor(home.processes, home.logs))
    engine.require()
    monkeypatch.setattr(environment, "check_platform", no_wheel)
    with pytest.raises(Unavailable, match="no package"):
        engine.require()
