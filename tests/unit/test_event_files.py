"""What a worker's code writes for TensorBoard, against the stand-in for the service."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from contexts import LocalRun, local_run
from tensorboardX import SummaryWriter

from aiaas_magics.runtime import event_files
from aiaas_magics.runtime.context import entered


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LocalRun]:
    with local_run(tmp_path) as local:
        yield local


def kept(run: LocalRun) -> list[str]:
    content = run.service.blobs[run.recorded.event_files[0]]
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


def test_what_is_written_is_sent_at_the_end_and_deleted_here(run: LocalRun) -> None:
    with run.attempt() as context, entered(context) as ctx:
        with SummaryWriter(str(ctx.tensorboard_dir / "train")) as writer:
            writer.add_scalar("loss", 0.5, 1)
        assert ctx.tensorboard_dir == ctx.tensorboard_dir
        directory = ctx.tensorboard_dir
        assert not run.recorded.event_files
    (name,) = kept(run)
    assert name.startswith("train/events.out.tfevents.")
    assert not directory.exists()


def test_it_is_sent_when_the_code_fails(run: LocalRun) -> None:
    def train() -> None:
        with run.attempt() as context, entered(context) as ctx:
            (ctx.tensorboard_dir / "events.out.tfevents.1").write_text("so far")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert kept(run) == ["events.out.tfevents.1"]


@pytest.mark.parametrize("asked", [False, True])
def test_who_writes_nothing_sends_nothing(run: LocalRun, asked: bool) -> None:
    with run.attempt() as context, entered(context) as ctx:
        if asked:
            assert ctx.tensorboard_dir.is_dir()
    assert not run.recorded.event_files
    assert not run.service.blobs


def test_what_is_too_large_is_said_and_fails_nothing(
    run: LocalRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(event_files, "MAX_BYTES", 10)
    with run.attempt() as context, entered(context) as ctx:
        (ctx.tensorboard_dir / "events").write_bytes(b"x" * 11)
    assert not run.recorded.event_files
    assert "worker 0's files for TensorBoard are not kept" in capsys.readouterr().out


def test_a_run_that_is_over_is_told_nothing(
    run: LocalRun, capsys: pytest.CaptureFixture[str]
) -> None:
    with run.attempt() as context, entered(context) as ctx:
        (ctx.tensorboard_dir / "events").write_text("late")
        run.recorded.cancelled = True
    assert not run.recorded.event_files
    assert "TensorBoard" not in capsys.readouterr().out
