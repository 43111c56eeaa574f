"""A smoke of code, from the notebook's side: the first steps of a run, here, before any worker."""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from aiaas_hub.schemas.datasets import Dataset
from aiaas_hub.schemas.jobs import Job
from aiaas_hub.schemas.runs import PinnedDataset, RunKind
from aiaas_hub.schemas.transforms import TransformSpec
from aiaas_magics import display
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Rich
from aiaas_magics.errors import SmokeFailed
from aiaas_magics.request import Request
from aiaas_magics.runtime.smoke import REPORT, SmokeReport
from aiaas_magics.snapshot import Code

LIMIT = 120.0
"""Seconds until the first step; then the process is ended."""
SETTLE = 5.0
"""Seconds after it, in which a run may come to its end and save its model."""

_MOST_ROWS = 1_000
_LEAST_ROWS = 64
_MOST_BYTES = 16 << 20
_GRACE = 15.0
_TICK = 0.1
# A run has no user's token, and finds no module beside the notebook but those it brings.
_NOT_INHERITED = {"JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN", "PYTHONPATH", "AIAAS_NODE_CACHE"}


class Smoke(Rich):
    """What the first steps have shown; it is given only if they went well."""

    def __init__(self, request: Request, report: SmokeReport, rows: Sequence[str]) -> None:
        self.name = request.name
        self.report = report
        self._rows = rows
        self._notes = []
        if not report.finished:
            self._notes.append("it was ended while it went well")
        if not report.model and not report.result:
            self._notes.append("ctx.save_model was not reached")
        early = request.early_stop
        if early is not None and report.finished and early.metric not in report.metrics:
            self._notes.append(f"no report had {early.metric!r}, the metric to stop early by")
        if request.workers > 1:
            self._notes.append("with one worker")

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.report.metrics)

    def _facts(self) -> list[tuple[str, str]]:
        report = self.report
        metrics = ", ".join(f"{k} {display.number(v)}" for k, v in report.metrics.items())
        model = f"{report.model}, off by at most {report.model_max_abs:.1e}" if report.model else ""
        return [
            ("steps", f"{report.reports} reported" if report.reports else ""),
            ("metrics", metrics),
            ("data", ", ".join(self._rows)),
            ("result", report.result),
            ("checkpoint", "saved" if report.checkpointed else ""),
            ("model", model),
            (
                "time",
                f"{display.duration(report.seconds)}, of it "
                f"{display.duration(report.load_seconds)} to load the code",
            ),
            ("note", "; ".join(self._notes)),
            ("next", "submit it: the same without smoke"),
        ]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts() if value]
        return display.card(f"Smoke of {self.name}", "succeeded", facts)

    def _text(self) -> str:
        return display.text_card(f"Smoke of {self.name}", "succeeded", self._facts())


def smoke(
    code: Code,
    request: Request,
    limit: float = LIMIT,
    settle: float = SETTLE,
    *,
    transform: TransformSpec | None = None,
) -> Smoke:
    """Run the first steps of `code` here, in a process of their own, on the first rows.

    Its output appears as it comes. Raises `SmokeFailed` with the user's own line if the code
    fails or reports no step within `limit` seconds; the kernel is not touched by that. After its
    first step it has `settle` seconds to come to its end and save its model.
    """
    request.check()
    with tempfile.TemporaryDirectory(prefix="aiaas-smoke-", ignore_cleanup_errors=True) as made:
        directory = Path(made)
        (directory / "work").mkdir()
        (directory / "snapshot.zip").write_bytes(code.content)
        pinned, rows = _slices(request.datasets, directory) if request.datasets else ([], [])
        job = Job(
            run_id=f"smoke-{code.digest[:10]}",
            attempt=1,
            name=request.name,
            owner=pinned[0].owner if pinned else "me",
            snapshot=code.described(),
            datasets=pinned,
            params=dict(request.params),
            resources=request.check().model_copy(update={"workers": 1}),
            retries=0,
            kind=RunKind.TRAIN if transform is None else RunKind.TRANSFORM,
            transform=transform,
        )
        (directory / "job.json").write_text(job.model_dump_json())
        status = _execute(directory, request, limit, settle)
        report = _read(directory, status)
    if report.error is not None:
        if report.error.traceback:
            sys.stdout.write(f"{display.clean(report.error.traceback).rstrip()}\n")
        raise SmokeFailed(display.sentence(report.error.message), remedy=report.error.remedy)
    return Smoke(request, report, rows)


def _slices(names: Sequence[str], directory: Path) -> tuple[list[PinnedDataset], list[str]]:
    client: Client = current_client()
    pinned, rows = [], []
    for index, name in enumerate(names):
        dataset = client.datasets.get(*client.resolve_dataset(name))
        version = dataset.latest
        limit = _rows(dataset)
        client.datasets.download(
            dataset.owner,
            dataset.name,
            directory / f"{index}.parquet",
            version=version.version,
            limit=limit,
        )
        one = PinnedDataset(owner=dataset.owner, name=dataset.name, version=version.version)
        pinned.append(one)
        rows.append(f"the first {min(limit, version.rows):,} of {version.rows:,} rows of {one}")
    return pinned, rows


def _rows(dataset: Dataset) -> int:
    each = max(1, dataset.latest.size // max(1, dataset.latest.rows))
    return max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_BYTES // each))


def _execute(directory: Path, request: Request, limit: float, settle: float) -> int:
    """The exit status; negative for the signal that ended the process."""
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
    root = Path(__file__).parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        # A checkout that only this kernel's own path leads to.
        environment["PYTHONPATH"] = str(root)
    environment["PYTHONUNBUFFERED"] = "1"
    environment["AIAAS_NODE_CACHE"] = str(directory / "cache")
    if not request.gpus_per_worker:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [
        *(sys.executable, "-P", "-m", "aiaas_magics.runtime.smoke"),
        *(str(directory), f"{limit:g}", f"{settle:g}"),
    ]
    process = subprocess.Popen(  # noqa: S603 - this interpreter, with our own arguments
        command,
        # Not the notebook's: what lies there would be missing in a run.
        cwd=directory / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    # Where Python itself hangs, nothing in the process can end it.
    timer = threading.Timer(limit + _GRACE, _kill, [process])
    timer.start()
    try:
        _show_output(process)
        return process.wait()
    finally:
        timer.cancel()
        _kill(process)
        process.wait()


def _show_output(process: subprocess.Popen[bytes]) -> None:
    """As it comes, until the process is over: what it has started may hold the pipe longer."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with cast("IO[bytes]", process.stdout) as pipe:
        over = False
        while True:
            # What was written before the end is in the pipe by then.
            over = over or process.poll() is not None
            ready, _, _ = select.select([pipe], [], [], 0 if over else _TICK)
            data = os.read(pipe.fileno(), 1 << 16) if ready else b""
            sys.stdout.write(display.clean(decoder.decode(data)))
            if not data and (over or ready):
                return


def _read(directory: Path, status: int) -> SmokeReport:
    try:
        return SmokeReport.model_validate_json((directory / REPORT).read_text())
    except FileNotFoundError:
        pass
    if status == -signal.SIGKILL:
        raise SmokeFailed(
            "The process of the smoke was killed: it took too long, or all of the memory.",
            remedy="Use a smaller batch or model, then try again.",
        )
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    raise SmokeFailed(
        f"The code ended its process ({name}) without a Python error.",
        remedy="Look at its last output above; a library has crashed or called os._exit.",
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started: the process leads a group of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
