"""The supervisor on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor
from aiaas_hub.schemas.errors import Unavailable


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "processes", tmp_path / "logs")
    yield supervisor
    supervisor.stop_all()


def _spec(code: str, *, name: str = "engine", grace: float = 2, **env: str) -> ProcessSpec:
    return ProcessSpec(name, [sys.executable, "-c", code], env, grace_seconds=grace)


def _wait(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


SLEEP = "import time; time.sleep(60)"


def test_start_records_and_logs_but_never_writes_the_environment(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    process = supervisor.start(
        _spec("print('hello', flush=True); import time; time.sleep(60)", CANARY="s3cr3t")
    )
    assert supervisor.alive("engine")
    record = tmp_path / "processes" / "engine.json"
    assert record.stat().st_mode & 0o777 == 0o600
    assert json.loads(record.read_text())["pid"] == process.pid
    assert os.getsid(process.pid) == process.pid
    log = supervisor.log_file("engine")
    _wait(lambda: "hello" in log.read_text())
    assert log.stat().st_mode & 0o777 == 0o600
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or "s3cr3t" not in path.read_text()
    supervisor.stop("engine")
    assert not record.exists()
    assert not supervisor.alive("engine")
    supervisor.stop("engine")


def test_a_second_start_adopts(supervisor: Supervisor) -> None:
    first = supervisor.start(_spec(SLEEP))
    second = supervisor.start(_spec(SLEEP))
    assert (second.pid, second.adopted) == (first.pid, True)


def test_threads_start_one_process(supervisor: Supervisor) -> None:
    pids: list[int] = []
    threads = [
        threading.Thread(target=lambda: pids.append(supervisor.start(_spec(SLEEP)).pid))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 8
    assert len(set(pids)) == 1


def test_two_supervisors_on_the_same_records_start_one_process(tmp_path: Path) -> None:
    """As two processes of a platform that come up together would."""
    supervisors = [Supervisor(tmp_path / "processes", tmp_path / "logs") for _ in range(4)]
    pids: list[int] = []
    threads = [
        threading.Thread(target=lambda s=s: pids.append(s.start(_spec(SLEEP)).pid))
        for s in supervisors
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1
    # Whoever stops it, the others see it gone, its parent too.
    supervisors[-1].stop("engine")
    assert not any(supervisor.alive("engine") for supervisor in supervisors)
    assert _gone(pids[0])


def test_adopts_and_stops_after_its_own_kill_9(tmp_path: Path) -> None:
    """The parent dies without a word; the next one adopts the very process and can end it."""
    parent = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor\n"
            "s = Supervisor(Path(sys.argv[1], 'processes'), Path(sys.argv[1], 'logs'))\n"
            "argv = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
            "print(s.start(ProcessSpec('engine', argv, {})).pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert parent.returncode == -signal.SIGKILL
    pid = int(parent.stdout)
    supervisor = Supervisor(tmp_path / "processes", tmp_path / "logs")
    assert supervisor.alive("engine")
    assert supervisor.start(_spec(SLEEP)).pid == pid
    supervisor.stop("engine")
    assert _gone(pid)


def test_a_dead_child_is_reaped_and_started_anew(supervisor: Supervisor) -> None:
    first = supervisor.start(_spec(SLEEP))
    os.kill(first.pid, signal.SIGKILL)
    # It may die between the question whether it is over and the look at it: asked once more,
    # it is reaped.
    _wait(lambda: not supervisor.alive("engine") and not psutil.pid_exists(first.pid))
    second = supervisor.start(_spec(SLEEP))
    assert second.pid != first.pid
    assert not second.adopted
    assert supervisor.alive("engine")


def test_stop_ends_grandchildren_in_other_groups_of_the_session(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import signal, time;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)']\n"
        "a = subprocess.Popen(sleep)\n"
        "b = subprocess.Popen(sleep, process_group=0)\n"
        f"open({str(pids)!r} + '~', 'w').write(f'{{a.pid}} {{b.pid}}')\n"
        f"os.rename({str(pids)!r} + '~', {str(pids)!r})\n"
        "time.sleep(60)\n"
    )
    leader = supervisor.start(_spec(code, grace=0.5))
    _wait(pids.exists)
    helpers = [int(pid) for pid in pids.read_text().split()]
    # The leader dies by itself: what it leaves is still ours to end.
    os.kill(leader.pid, signal.SIGKILL)
    _wait(lambda: not supervisor.alive("engine"))
    assert not any(_gone(pid) for pid in helpers)
    supervisor.stop("engine")
    assert all(_gone(pid) for pid in helpers)


def test_stop_uses_the_asked_signal_then_kills(supervisor: Supervisor, tmp_path: Path) -> None:
    ready, seen = tmp_path / "ready", tmp_path / "seen"
    code = (
        "import signal, time, pathlib\n"
        f"signal.signal(signal.SIGINT, lambda *_: pathlib.Path({str(seen)!r}).touch())\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "while True: time.sleep(1)\n"
    )
    process = supervisor.start(
        ProcessSpec(
            "engine", [sys.executable, "-c", code], {}, stop_signal=signal.SIGINT, grace_seconds=0.3
        )
    )
    _wait(ready.exists)
    supervisor.stop("engine")
    assert seen.exists()
    assert _gone(process.pid)


def test_a_record_of_another_process_of_that_number_is_not_believed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A number taken over by a stranger: the stranger is neither adopted nor ended."""
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    time.sleep(0.05)  # the kernel counts births in hundredths of a second
    try:
        ours = supervisor.start(_spec(SLEEP))
        record = tmp_path / "processes" / "engine.json"
        content = json.loads(record.read_text())
        content.update(pid=stranger.pid, pgid=stranger.pid, sid=stranger.pid)
        other = Supervisor(tmp_path / "others", tmp_path / "logs")
        (tmp_path / "others").mkdir()
        (tmp_path / "others" / "engine.json").write_text(json.dumps(content))
        assert not other.alive("engine")
        other.stop("engine")
        assert stranger.poll() is None
        assert supervisor.alive("engine")
        assert ours.pid != stranger.pid
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_that_is_not_there_is_a_clear_error(supervisor: Supervisor) -> None:
    with pytest.raises(Unavailable, match="engine cannot be started"):
        supervisor.start(ProcessSpec("engine", ["/nonexistent/program"], {}))
    assert not supervisor.alive("engine")
    assert supervisor.names() == []


def test_what_a_killed_process_leaves_is_removed(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "region_1").touch()
    (tmp_path / "region_2").touch()
    (tmp_path / "other").touch()
    spec = ProcessSpec("engine", [sys.executable, "-c", SLEEP], {}, leaves=[f"{tmp_path}/region_*"])
    process = supervisor.start(spec)
    assert (tmp_path / "region_1").exists()
    os.kill(process.pid, signal.SIGKILL)
    _wait(lambda: not supervisor.alive("engine"))
    supervisor.start(spec)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["other"]


@pytest.mark.parametrize("ends", [True, False])
def test_sessions_that_it_started_end_with_it_if_it_says_so(
    supervisor: Supervisor, tmp_path: Path, ends: bool
) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        f"job = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n"
        f"pathlib.Path({str(pid_file)!r} + '~').write_text(str(job.pid))\n"
        f"os.rename({str(pid_file)!r} + '~', {str(pid_file)!r})\n"
        "time.sleep(60)\n"
    )
    supervisor.start(ProcessSpec("engine", [sys.executable, "-c", code], {}, starts_sessions=ends))
    _wait(pid_file.exists)
    job = int(pid_file.read_text())
    supervisor.stop("engine")
    assert _gone(job) is ends
    if not ends:
        os.kill(job, signal.SIGKILL)


def test_stop_all(supervisor: Supervisor) -> None:
    started = [supervisor.start(_spec(SLEEP, name=name)) for name in ("one", "other")]
    supervisor.stop_all()
    assert all(_gone(process.pid) for process in started)
    assert supervisor.names() == []


def test_last_lines_of_a_log(supervisor: Supervisor) -> None:
    assert supervisor.last_lines("engine") == []
    supervisor.start(_spec("for line in range(9000): print(line)"))
    _wait(lambda: not supervisor.alive("engine"))
    assert supervisor.last_lines("engine", 2) == ["8998", "8999"]
