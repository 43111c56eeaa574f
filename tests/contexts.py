"""A run's real context in this process, without Ray, against the stand-in for the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import pandas as pd
import pytest
from job_service import TOKEN, JobService, RecordedRun

from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.context import Context
from aiaas_magics.runtime.metrics import MetricSender
from aiaas_magics.runtime.surroundings import LocalSurroundings


@dataclass
class LocalRun:
    """A run whose attempts share a storage."""

    service: JobService
    recorded: RecordedRun
    directory: Path

    @contextmanager
    def attempt(self, **changes: Any) -> Iterator[Context]:
        """The context of a new attempt; `changes` are fields of its `Job`. Metrics have arrived
        once it is left."""
        job = self.recorded.job.model_copy(update=changes)
        api = JobApi(self.service.url, job.run_id, TOKEN, patience=5)
        # Points of a later attempt are numbered above those of the one before.
        sender = MetricSender(api.send_metrics, attempt_began=0.0)
        try:
            yield Context(job, api, sender, LocalSurroundings(self.directory))
        finally:
            sender.close()
            api.close()

    @property
    def points(self) -> list[tuple[int, dict[str, float]]]:
        """(step, values) of each report, in order."""
        return [point for _, point in sorted(self.recorded.metrics.items())]

    def values(self, metric: str) -> list[float]:
        return [values[metric] for _, values in self.points if metric in values]

    def model(self) -> onnxruntime.InferenceSession:
        """The model that was handed over."""
        assert self.recorded.model is not None
        return onnxruntime.InferenceSession(self.service.blobs[self.recorded.model["onnx"]])


@contextmanager
def local_run(
    directory: Path,
    frames: dict[str, pd.DataFrame] | None = None,
    params: dict[str, Any] | None = None,
) -> Iterator[LocalRun]:
    with JobService() as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIAAS_NODE_CACHE", str(directory / "cache"))
        recorded = service.add("run-1", "", frames=frames, params=params)
        yield LocalRun(service, recorded, directory)
