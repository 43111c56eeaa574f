"""A transform: Ray Data runs `transform(batch)` over a dataset, and the service commits the result.

Nothing of it can be seen before the last row is there: results are kept in the run's directory,
uploaded, and become versions all at once, by the run's id. A driver that takes the run up again
begins anew, and where the one before it had committed already it makes the same versions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import ray.data

from aiaas_hub.schemas.assignments import Assignment
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.jobs import Job
from aiaas_hub.schemas.runs import Progress
from aiaas_hub.schemas.transforms import TransformResult
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.assembling import Assembly
from aiaas_magics.runtime.batches import Piece, pieces
from aiaas_magics.runtime.failures import TrainingFailed
from aiaas_magics.runtime.ledger import say
from aiaas_magics.runtime.logs import LogShipper
from aiaas_magics.runtime.metrics import MetricSender
from aiaas_magics.runtime.transform_worker import (
    FAILED,
    OVER,
    RESULT,
    ROWS,
    Told,
    TransformWorker,
    dataset,
)
from aiaas_magics.runtime.worker_logs import WorkerLogs

_MARK = b":actor_name:"


class TransformFailed(Exception):
    """Looks like Ray Train's own error, whose workers' failures the driver explains."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__(str(failure))
        self.worker_failures: Mapping[int, BaseException] = {0: failure}


def without_marks(text: bytes) -> bytes:
    """Whole lines of a log without those by which Ray tells its actors apart."""
    return b"".join(line for line in text.splitlines(True) if not line.startswith(_MARK))


class Transform:
    """Runs the transform that `job` is. Ray is connected when it is made."""

    def __init__(self, job: Job, assignment: Assignment, api: JobApi, began: float) -> None:
        if job.transform is None or len(job.datasets) != 1:
            raise InvalidInput("The run does not say what it makes.", remedy="Submit it again.")
        self._job = job
        self._spec = job.transform
        self._assignment = assignment
        self._api = api
        self._began = began
        self._directory = assignment.storage / "transform"

    def run(self, logs: LogShipper) -> None:
        """Raises `TransformFailed` for what the user's code or the service says, `InvalidInput`
        for results that do not go together."""
        # An attempt that was killed may have left its own.
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        output = WorkerLogs(lambda text: logs.write(without_marks(text)))
        fifo = output.open(b"")
        # A reader that has seen the last writer leave is gone: there is always one.
        held = os.open(fifo, os.O_WRONLY)
        try:
            assembly = self._read(fifo)
            self._commit(assembly)
        finally:
            os.close(held)
            output.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _read(self, fifo: str) -> Assembly:
        source = dataset(self._job, self._api)
        parts = pieces(source, self._job.resources.workers, self._spec.batch_size)
        total = sum(piece.rows for piece in parts)
        assembly = Assembly(self._directory, self._spec)
        sender = MetricSender(self._api.send_metrics, attempt_began=self._began)
        done = 0
        try:
            for answer in self._answers(parts, fifo):
                if answer[FAILED] is not None:
                    raise TransformFailed(TrainingFailed(answer[FAILED], 0, 0.0, False))
                if answer[OVER] is not None:
                    raise TransformFailed(RunOver(answer[OVER]))
                assembly.add(answer[RESULT])
                done += answer[ROWS]
                sender.put(done, {"rows_read": done, "rows_made": assembly.rows})
                sender.progress(Progress(step=done, total=total))
        finally:
            sender.close()
        return assembly

    def _answers(self, parts: list[Piece], fifo: str) -> Iterator[dict[str, Any]]:
        """What the workers answer, in the order of the pieces."""
        context = ray.data.DataContext.get_current()
        # Rows stay in their order: the same code and data make the same content.
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Its remarks are for its developers.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        resources = self._job.resources
        workers = min(resources.workers, len(parts))
        told = Told(
            job=self._job.model_dump_json(),
            api=self._assignment.api,
            token_file=str(self._assignment.token_file),
            output=fifo,
        )
        asked = [pa.Table.from_pylist([vars(piece)]) for piece in parts]
        answers = ray.data.from_arrow(asked).map_batches(
            TransformWorker,
            fn_constructor_kwargs={"told": told},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=resources.cpus_per_worker,
            num_gpus=resources.gpus_per_worker or None,
        )
        with contextlib.closing(
            iter(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
        ) as tables:
            for table in tables:
                yield from table.to_pylist()

    def _commit(self, assembly: Assembly) -> None:
        contents = {
            name: self._api.upload(file).digest
            for name, file in zip(self._spec.names, assembly.write(), strict=True)
        }
        for made in self._api.commit_datasets(TransformResult(contents=contents)):
            rows = made.latest.rows
            say(f"made {made.owner}/{made.name}@{made.latest.version}: {rows:,} rows")
