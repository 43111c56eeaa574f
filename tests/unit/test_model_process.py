"""What a process that opens somebody's model answers, and what becomes of it where it does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from aiaas_hub.adapters import model_process

COUNTED = """
import json, os, pathlib, signal, sys, time
# A shell has what it runs in the background ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
lives = pathlib.Path("lives")
lives.write_text((lives.read_text() if lives.exists() else "") + ".")
life = len(lives.read_text())
"""


def ask(directory: Path, program: str, seconds: float = 60) -> tuple[object, int]:
    """The answer, and how often it was asked."""
    answer = model_process.ask([sys.executable, "-c", COUNTED + program], {}, directory, seconds)
    return answer, len((directory / "lives").read_text())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "_PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_ended_from_outside_it_is_asked_once_more(tmp_path: Path, signal: str) -> None:
    program = f"""
if life == 1:
    os.kill(os.getpid(), signal.{signal})
    time.sleep(60)
print(json.dumps({{"life": life}}))
"""
    assert ask(tmp_path, program) == ({"life": 2}, 2)


@pytest.mark.parametrize(
    ("program", "times"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 2),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 1),
        ("sys.exit(3)", 1),
        ("print('no JSON')", 1),
        ("print('[1]')", 1),
    ],
)
def test_without_an_answer_there_is_none(tmp_path: Path, program: str, times: int) -> None:
    assert ask(tmp_path, program) == (None, times)


def test_both_times_together_take_no_longer_than_one_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    run = model_process._run

    def noted(*arguments: Any) -> Any:
        given.append(arguments[-1])
        return run(*arguments)

    monkeypatch.setattr(model_process, "_run", noted)
    program = "time.sleep(1.5 if life == 1 else 60)\nos.kill(os.getpid(), signal.SIGKILL)"
    assert ask(tmp_path, program, seconds=5) == (None, 2)
    first, second = given
    assert first == 5
    assert second <= first - 1.5
