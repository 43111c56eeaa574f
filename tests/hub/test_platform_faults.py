"""Runs that train while what is around them breaks: the kernel and the notebook server that watch
them, the disk, the hub. Nothing is lost or doubled, and every ending gives back what it held.

One platform on a small disk goes through all of it. Its *survivor* may be retried, and trains from
before the first fault to after the last.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnx_models
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from running_platform import RunningPlatform
from safetensors.numpy import save
from service_calls import ServiceCalls, until
from tenacity import Retrying, retry, retry_if_exception_type, stop_after_delay, wait_fixed
from trainings import LONG, STARTS, TRAINING, Trainings, healed, kill

from aiaas_hub.local.remote_kernel import RemoteKernel
from aiaas_hub.schemas.errors import Unavailable

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

DISK_BYTES = 256 << 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform on a small disk, where this user may mount one."""
    root = tmp_path_factory.mktemp("faults") / "home"
    root.mkdir(mode=0o700)
    small = os.geteuid() == 0 and mount(root)
    running = RunningPlatform.on(root)
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.end()
        if small:
            unmount(root)


@retry(
    retry=retry_if_exception_type(subprocess.CalledProcessError),
    stop=stop_after_delay(30),
    wait=wait_fixed(0.5),
    reraise=True,
)
def unmount(directory: Path) -> None:
    """On a busy machine what was killed holds it for a moment yet."""
    subprocess.run(["umount", str(directory)], check=True)  # noqa: S607


def mount(directory: Path) -> bool:
    """Whether it is a small file system of its own now: containers' root may not mount any."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def trainings(own: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    trainings = Trainings.on(own, tmp_path_factory.mktemp("ends"))
    trainings.submit("survivor", retries=20)
    trainings.until_it_steps("survivor", beyond=3, seconds=STARTS)
    return trainings


def test_pain_a_run_that_dies_with_its_kernel_and_notebook_server(
    own: RunningPlatform, trainings: Trainings
) -> None:
    cell = (
        f"%%aiaas train --name watched --param until={trainings.ends / 'watched'} "
        f"--param checkpoints=0\n{TRAINING}"
    )
    with own.session("ada") as session:
        session.spawn("small")
        with (
            contextlib.suppress(Unavailable),
            RemoteKernel(session, directory="examples") as kernel,
        ):
            watching = threading.Thread(target=lambda: execute(kernel, cell))
            watching.start()
            trainings.runs["watched"] = until(
                lambda: trainings.calls.call("GET", "/runs?name=watched"),
                lambda found: found["items"],
                LONG,
            )["items"][0]["id"]
            trainings.wait("watched", "running")
            trainings.moment(1)
            kill(trainings.found("ipykernel_launcher"))
            watching.join(LONG)
        killed = kill(trainings.found("jupyterhub.singleuser"))
        trainings.until_it_steps("watched", beyond=3)
        # Until the hub has looked, it sends whoever asks to the server that is gone.
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.HTTPStatusError),
            stop=stop_after_delay(LONG),
            wait=wait_fixed(0.5),
            reraise=True,
        ):
            with attempt:
                session.spawn("small")
        healed("notebook server killed: there again", killed)
        trainings.end("watched")
        with RemoteKernel(session, directory="examples") as kernel:
            outputs = execute(kernel, f"%aiaas attach {trainings.runs['watched']}")
        assert "succeeded" in str(outputs)
        assert trainings.log("watched")[-1] in str(outputs)
        healed("kernel and server killed: attached, to the end of the run", killed)
    trainings.assert_whole("watched")
    assert len(trainings.beginnings("watched")) == 1


def execute(kernel: RemoteKernel, source: str) -> list[Any]:
    """The outputs of a cell; none if the kernel dies in it."""
    cells = [new_code_cell("%load_ext aiaas_magics"), new_code_cell(source)]
    with contextlib.suppress(Unavailable):
        kernel.run(
            new_notebook(cells=cells),
            cell_timeout=LONG,
            stop_requested=lambda: False,
            progress=lambda _: None,
        )
    return list(cells[1].get("outputs", []))


def test_a_full_disk(own: RunningPlatform, trainings: Trainings) -> None:
    if not own.home.root.is_mount():
        pytest.skip("only root may mount a small disk, and not in every container")
    trainings.submit("by-the-disk")
    trainings.submit("without-checkpoints", checkpoints=False)
    trainings.until_it_steps("by-the-disk", "without-checkpoints", beyond=3)
    request = trainings.request("refused")
    filler = own.home.root / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        refused = trainings.calls.call("POST", "/blobs", content=secrets.token_bytes(100_000))
        assert refused.status_code == 503
        assert "disk is full" in refused.json()["error"]["message"]
        submitted = trainings.calls.call("POST", "/runs", json=request)
        if not submitted.is_success:
            assert submitted.status_code == 503, submitted.text
            assert "make room" in submitted.json()["error"]["remedy"]
        assert trainings.state("without-checkpoints")["state"] == "running"
        trainings.moment(4)
    finally:
        filler.unlink()
    emptied = time.monotonic()
    listed = trainings.calls.ok("GET", "/runs")["items"]
    # SQLite's log has room of its own at times: then it was written, and all of it.
    assert ("refused" in [one["name"] for one in listed]) == submitted.is_success
    if submitted.is_success:
        trainings.runs["refused"] = submitted.json()["id"]
        trainings.calls.ok("POST", f"/runs/{trainings.runs['refused']}/cancel")
        trainings.wait("refused", "cancelled", "failed")
    broken = trainings.wait("by-the-disk", "failed")
    assert "disk is full" in broken["error"]["message"]
    trainings.until_it_steps("without-checkpoints", beyond=3)
    healed("disk full: metrics arrive again", emptied)
    trainings.until_it_steps("survivor", beyond=3)
    healed("disk full: a run with checkpoints goes on", emptied)
    trainings.runs["resumed"] = trainings.calls.ok(
        "POST",
        f"/runs/{broken['id']}/resume",
        json={"params": {"until": str(trainings.ends / "resumed")}},
    )["id"]
    trainings.until_it_steps("resumed")
    assert trainings.beginnings("resumed")[0][1] > 0
    for name in ("resumed", "without-checkpoints"):
        trainings.end(name)
        trainings.wait(name, "succeeded")
    for name in ("survivor", "by-the-disk", "without-checkpoints"):
        trainings.assert_whole(name)
    assert len(trainings.beginnings("without-checkpoints")) == 1


def test_a_publish_on_a_full_disk(own: RunningPlatform, tmp_path: Path) -> None:
    """It says why it waits, leaves nothing half written, and goes on when there is room."""
    if not own.home.root.is_mount():
        pytest.skip("only root may mount a small disk, and not in every container")
    ada = ServiceCalls.of(own, "ada")
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows = {"input.x": x, "output.y": 2 * x, "output.total": (2 * x).sum(axis=1)}
    large = onnx.load(onnx_models.scale(tmp_path / "model.onnx", 2.0))
    large.metadata_props.add(key="padding", value=secrets.token_hex(4 << 20))
    model = {
        "onnx": ada.upload(large.SerializeToString()),
        "evaluation": ada.upload(save(rows)),
        "signature": onnx_models.SCALE_SIGNATURE.model_dump(mode="json"),
        "export_max_abs": 0.0,
    }
    ada.ok("POST", "/models/ada/doubles/versions", json=model)
    filler = own.home.root / "filler-of-a-publish"
    free = shutil.disk_usage(own.home.root).free
    # Room for the records that say so, and not for the model.
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - (4 << 20))
    try:
        ada.ok("POST", "/endpoints/ada/doubles/publish", json={"model": "doubles"})
        waiting = until(
            lambda: ada.call("GET", "/endpoints/ada/doubles"),
            lambda found: "disk" in found["versions"][0]["reason"],
            LONG,
        )["versions"][0]
        assert (waiting["state"], waiting["error"]) == ("staging", "")
        assert waiting["reason"].startswith("The platform's disk is full.")
        assert list((own.home.triton / "staging").iterdir()) == []
    finally:
        filler.unlink()
    emptied = time.monotonic()
    ada.endpoint_until("doubles", "serving", timeout=LONG)
    healed("disk full: a publish goes on", emptied)
    answer = ada.predict("doubles")
    assert answer.is_success, answer.text
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6]


def test_a_killed_hub(own: RunningPlatform, trainings: Trainings) -> None:
    trainings.submit("by-the-hub")
    trainings.until_it_steps("by-the-hub", beyond=3)
    attempt = trainings.state("survivor")["attempt"]
    killed = kill(trainings.found("jupyterhub"))
    assert own.up is not None
    assert own.up.wait(60) == 1
    own.start()
    trainings.wait("by-the-hub", "lost")
    healed("hub killed, and the platform started again: a run without retries is lost", killed)
    trainings.until_attempt("survivor", attempt + 1)
    healed("hub killed, and the platform started again: goes on from its checkpoint", killed)
    for name in ("survivor", "by-the-hub"):
        trainings.assert_whole(name)
    trainings.end("survivor")
    trainings.wait("survivor", "succeeded")
    assert trainings.held() == 0
