"""A smoke: a run's first steps on this machine, in a process of its own, on the first rows.

`python -m aiaas_magics.runtime.smoke DIRECTORY LIMIT SETTLE`: seconds until the first step, and
from there to the end. In the directory the notebook has put

    snapshot.zip       the very bytes that would be submitted
    job.json           a `Job`
    0.parquet, …       the first rows of the job's datasets, in their order

Loading, context and export are those of a worker; what differs is that nothing leaves the machine
and that a run that goes on and on is ended. `report.json` is written as the last act.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pydantic import BaseModel, Field

from aiaas_hub.schemas.blobs import Blob
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.jobs import Job, JobEventFiles
from aiaas_hub.schemas.models import ModelHandOver, ModelVersion
from aiaas_hub.schemas.runs import MetricValue, Progress, RunError
from aiaas_hub.schemas.transforms import TransformSpec
from aiaas_magics.runtime import snapshot, stopping
from aiaas_magics.runtime.failures import describe
from aiaas_magics.runtime.lines import take_any_text
from aiaas_magics.runtime.surroundings import kept_checkpoint

REPORT = "report.json"


class SmokeReport(BaseModel):
    """What a smoke has seen."""

    error: RunError | None = None
    reports: int = 0
    """Calls of `ctx.report`."""
    metrics: dict[str, MetricValue] = Field(default_factory=dict)
    """The last ones."""
    finished: bool = False
    """`train` returned; else it was ended while it went well."""
    checkpointed: bool = False
    result: str = ""
    """What a transform made of its first batch."""
    model: str = ""
    """The signature of the model that was exported."""
    model_max_abs: float = 0
    load_seconds: float = 0
    """Until the code was loaded: its imports, mostly."""
    seconds: float = 0


class SmokeOver(BaseException):
    """Ends a run that has shown enough; no Exception, so that no `except` of the code keeps it."""


class _Seen:
    """Takes what a context would send to the service."""

    def __init__(self, directory: Path, job: Job, report: SmokeReport, settle: float) -> None:
        self._directory = directory
        self._job = job
        self._report = report
        self._settle = settle
        self._first_step: float | None = None

    def put(self, step: int, values: Mapping[str, float]) -> None:
        self._report.reports += 1
        self._report.metrics |= dict(values)
        now = time.monotonic()
        if self._first_step is None:
            self._first_step = now
            # A loop that asks `ctx.should_stop` comes to its last lines at once.
            stopping.ask()
        elif now - self._first_step > self._settle:
            raise SmokeOver

    def progress(self, progress: Progress) -> None:
        """Nobody watches."""

    def flush(self) -> None:
        """All of it has been taken already."""

    def download_dataset(self, index: int, target: Path) -> None:
        shutil.copyfile(self._directory / f"{index}.parquet", target)

    def upload(self, file: Path) -> Blob:
        content = file.read_bytes()
        return Blob(digest=hashlib.sha256(content).hexdigest(), size=len(content))

    def keep_event_files(self, files: JobEventFiles) -> None:
        """Nobody keeps what a first step wrote."""

    def hand_over(self, model: ModelHandOver) -> ModelVersion:
        def shown(tensors: Sequence[Any]) -> str:
            return ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in tensors)

        signature = model.signature
        self._report.model = f"{shown(signature.inputs)} → {shown(signature.outputs)}"
        self._report.model_max_abs = model.export_max_abs
        return ModelVersion.model_validate(
            {
                **model.model_dump(),
                "owner": self._job.owner,
                "name": self._job.name,
                "version": 1,
                "size": 0,
                "created_at": "1970-01-01T00:00:00Z",
            }
        )


def main(directory: Path, limit: float, settle: float) -> None:
    began = time.monotonic()
    take_any_text()
    report = SmokeReport()
    files: tuple[str, ...] = ()

    def end(status: int) -> NoReturn:
        report.seconds = time.monotonic() - began
        aside = directory / f"{REPORT}.part"
        aside.write_text(report.model_dump_json())
        aside.rename(directory / REPORT)
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads of the code's own may go on for ever.
        os._exit(status)

    def too_long() -> None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        at = _where(frame, files)
        message, remedy = f"No step was reported within {limit:g} s{at}.", "Call ctx.report in the "
        remedy += "training loop; if a step takes so long, submit the run without --smoke."
        if job.transform is not None:
            message = f"transform was not done with its first batch within {limit:g} s{at}."
            remedy = "If a batch takes so long, submit the run without --smoke."
        report.error = RunError(message=message, remedy=remedy)
        end(1)

    job = Job.model_validate_json((directory / "job.json").read_text())
    seen = _Seen(directory, job, report, settle)
    watchdog = threading.Timer(limit, too_long)
    watchdog.daemon = True
    watchdog.start()
    try:
        code_directory = directory / "code"
        snapshot.unpack(
            (directory / "snapshot.zip").read_bytes(), job.snapshot.digest, code_directory
        )
        files = snapshot.own_files(code_directory, job.snapshot)
        name = "train" if job.transform is None else "transform"
        code = snapshot.load(code_directory, job.snapshot, name)
        files = code.files
        report.load_seconds = time.monotonic() - began
        if job.transform is not None:
            report.result = _first_batch(code, job.transform, directory)
        else:
            _call(code, job, seen, directory)
        report.finished = True
    except SmokeOver:
        pass
    except BaseException as error:
        if report.reports and isinstance(error, SystemExit) and not error.code:
            report.finished = True
        elif isinstance(error, SystemExit | KeyboardInterrupt):
            report.error = describe(_ended(error), files, job)
        else:
            report.error = describe(error, files, job)
    watchdog.cancel()
    report.checkpointed = kept_checkpoint(directory) is not None
    end(0 if report.error is None else 1)


def _call(code: snapshot.Code, job: Job, seen: _Seen, directory: Path) -> None:
    from aiaas_magics.runtime.context import Context, entered
    from aiaas_magics.runtime.surroundings import LocalSurroundings

    _stand_in_for_ray_train(directory / "code", job, seen)
    context = Context(job, seen, seen, LocalSurroundings(directory))
    with entered(context):
        code.call(context)


def _first_batch(code: snapshot.Code, spec: TransformSpec, directory: Path) -> str:
    from aiaas_magics.runtime.assembling import Assembly
    from aiaas_magics.runtime.batches import batches, pieces
    from aiaas_magics.runtime.transform_worker import transformed

    file = directory / "0.parquet"
    table = next(batches(file, pieces(file, 1, spec.batch_size)[0], spec.batch_size))
    assembly = Assembly(directory, spec)
    assembly.add(transformed(code.call, table, spec))
    import pyarrow.parquet as pq

    made = [pq.read_metadata(part) for part in assembly.write()]
    columns = ", ".join(f"{c.name} {c.type}" for c in made[0].schema.to_arrow_schema())
    rows = " + ".join(f"{one.num_rows:,}" for one in made)
    return f"{table.num_rows:,} rows → {rows}: {columns}"


def _stand_in_for_ray_train(code: Path, job: Job, seen: _Seen) -> None:
    """Let plain `ray.train` calls work where no Ray runs, for code that imports ray."""
    if "ray" not in snapshot.read_manifest(code).get("packages", {}):
        return
    try:
        # Ray Train's own local mode, which has no public name.
        from ray.train.v2._internal.execution.train_fn_utils import (
            LocalTrainFnUtils,
            set_train_fn_utils,
        )
    except ImportError:
        return

    class Utils(LocalTrainFnUtils):  # type: ignore[misc]  # Ray's types are not followed
        def report(self, metrics: Any, *arguments: Any, **options: Any) -> None:
            super().report(metrics, *arguments, **options)
            numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
            seen.put(0, numbers)

    set_train_fn_utils(Utils(job.run_id))


def _ended(error: BaseException) -> Exception:
    said = f"The code ended the process: {type(error).__name__}"
    ended = InvalidInput(
        f"{said} {error.code}." if isinstance(error, SystemExit) else f"{said}.",
        remedy="Return from train(ctx) instead; a whole worker would end with it.",
    )
    return ended.with_traceback(error.__traceback__)


def _where(frame: FrameType | None, files: Sequence[str]) -> str:
    own = [one for one in traceback.extract_stack(frame) if one.filename in files]
    return f": it is at {own[-1].filename}, line {own[-1].lineno}" if own else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
