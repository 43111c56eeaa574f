"""What each of a transform's Ray Data actors runs: the user's `transform(batch)`, batch by batch.

Results travel as Arrow streams inside a column of bytes, and failures as text: Ray Data's own
blocks would have to agree on their types before all of them are there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.jobs import Job, JobStarted
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime import snapshot
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.batches import Piece, as_batch, as_table, batches
from aiaas_magics.runtime.cache import fetch
from aiaas_magics.runtime.failures import TrainingFailed, log

if TYPE_CHECKING:
    import pyarrow as pa

    from aiaas_hub.schemas.transforms import TransformSpec

ROWS, RESULT, FAILED, OVER = "rows", "result", "failed", "over"
"""Columns of what a worker answers: rows read, an Arrow stream, a `RunError`, why to stop."""


@dataclass(frozen=True)
class Told:
    """What a worker is told. It travels, so it holds no secret."""

    job: str
    """As JSON."""
    api: str
    token_file: str
    output: str
    """A FIFO on the driver's node."""


class TransformWorker:
    """Called by Ray Data with a table of one row that says which piece to do."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._job = Job.model_validate_json(told.job)
        self._api = JobApi(told.api, self._job.run_id, Path(told.token_file))
        self._files: tuple[str, ...] = (self._job.snapshot.entry,)
        self._transform: Callable[[Any], Any] | None = None
        _write_to(told.output)

    def __call__(self, asked: pa.Table) -> Iterator[pa.Table]:
        try:
            for piece in asked.to_pylist():
                for rows, stream in self._results(Piece(**piece)):
                    yield answer(rows, result=stream)
        except RunOver as reason:
            yield answer(0, over=str(reason))
        except BaseException as error:
            # Told rather than raised: exceptions of the user's may not pickle.
            failed = TrainingFailed.of(error, 0, self._files, self._job)
            log(failed.error)
            yield answer(0, failed=failed.error_json)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    def _results(self, piece: Piece) -> Iterator[tuple[int, bytes]]:
        transform = self._loaded()
        spec = self._job.transform
        assert spec is not None  # noqa: S101 - the driver has seen that it is one
        for table in batches(self._dataset(), piece, spec.batch_size):
            yield table.num_rows, transformed(transform, table, spec)

    def _loaded(self) -> Callable[[Any], Any]:
        if self._transform is None:
            from aiaas_magics.runtime.worker import use_processors

            use_processors(self._job.resources.cpus_per_worker)
            directory = snapshot.fetch(self._api, self._job.snapshot)
            self._files = snapshot.own_files(directory, self._job.snapshot)
            code = snapshot.load(directory, self._job.snapshot, "transform")
            self._files = code.files
            self._transform = code.call
            self._api.event(JobStarted())
        return self._transform

    def _dataset(self) -> Path:
        return dataset(self._job, self._api)


def dataset(job: Job, api: JobApi) -> Path:
    """The file of the run's one dataset on this node."""
    return fetch(job.dataset_digests[0], lambda target: api.download_dataset(0, target))


def transformed(transform: Callable[[Any], Any], table: pa.Table, spec: TransformSpec) -> bytes:
    """The result for one batch, as an Arrow stream. Raises what the user's code does, and
    `InvalidInput` for what cannot be stored."""
    import pyarrow as pa

    result = as_table(transform(as_batch(table, spec.batch_format)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, result.schema) as writer:
        writer.write_table(result)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def answer(
    rows: int, *, result: bytes | None = None, failed: str | None = None, over: str | None = None
) -> pa.Table:
    import pyarrow as pa

    kinds = {ROWS: pa.int64(), RESULT: pa.large_binary(), FAILED: pa.string(), OVER: pa.string()}
    values = {ROWS: rows, RESULT: result, FAILED: failed, OVER: over}
    return pa.table({name: pa.array([values[name]], kind) for name, kind in kinds.items()})


def _write_to(fifo: str) -> None:
    """Let the driver read what this process says; on another node Ray forwards it."""
    if not Path(fifo).exists():
        return
    descriptor = os.open(fifo, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
