"""A process of ours that opens somebody's model, which may crash it, and answers in JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ENDED_FROM_OUTSIDE = {-signal.SIGINT, -signal.SIGKILL, -signal.SIGTERM}
_PAUSE_SECONDS = 1.0


def ask(
    argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, seconds: float
) -> dict[str, Any] | None:
    """Its answer; None where it crashes, takes longer than `seconds` or says nothing.

    One that is ended from outside is asked once more. Who ends a whole container or service may
    end its children a moment before this process: in between nobody may write down that the model
    is at fault. A model that takes all memory is killed the second time, too.
    """
    ends = time.monotonic() + seconds
    try:
        done = _run(argv, env, cwd, seconds)
        if done.returncode in _ENDED_FROM_OUTSIDE:
            time.sleep(_PAUSE_SECONDS)
            done = _run(argv, env, cwd, max(0.0, ends - time.monotonic()))
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _run(
    argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script; the model is data to it
        [os.fspath(word) for word in argv],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
