"""What a `Context` asks of whatever runs its worker.

Ray Train is one such thing (`ray_surroundings`); a single process, or processes that were joined
with `torch.distributed` by somebody else (torchrun, a test), are another, here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from aiaas_hub.schemas.blobs import Blob
    from aiaas_hub.schemas.jobs import JobEventFiles
    from aiaas_hub.schemas.models import ModelHandOver, ModelVersion
    from aiaas_hub.schemas.runs import Progress


_CHECKPOINT = "checkpoint-"


class Surroundings(Protocol):
    """A worker's place among its run's workers, and where its checkpoints go."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Keep the files in the directory `checkpoint` as the run's last checkpoint.

        All workers call it together; only worker 0 has a directory. It is the caller's, and may
        be gone after the call.
        """

    def last_checkpoint(self) -> AbstractContextManager[Path | None]:
        """The directory of the last checkpoint, for as long as it is entered, or None."""


class RunService(Protocol):
    """What a `Context` asks of the service; `JobApi` is one."""

    def download_dataset(self, index: int, target: Path) -> None: ...

    def upload(self, file: Path) -> Blob: ...

    def hand_over(self, model: ModelHandOver) -> ModelVersion: ...

    def keep_event_files(self, files: JobEventFiles) -> None: ...


class MetricSink(Protocol):
    """Where metrics go; `MetricSender` is one."""

    def put(self, step: int, values: Mapping[str, float]) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def flush(self) -> None: ...


class LocalSurroundings:
    """This process alone, or with those of its default process group; no Ray.

    Checkpoints are kept in `directory`, which all workers see; `kept_checkpoint` finds the last.
    """

    def __init__(self, directory: Path) -> None:
        import torch
        import torch.distributed as dist

        joined = dist.is_available() and dist.is_initialized()
        self.rank: int = dist.get_rank() if joined else 0
        self.world_size: int = dist.get_world_size() if joined else 1
        self.device: torch.device = torch.device("cpu")
        if torch.cuda.is_available():
            self.device = torch.device("cuda", self.rank % torch.cuda.device_count())
        self._directory = directory

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        import torch.distributed as dist

        former = _kept(self._directory) if checkpoint is not None else []
        if checkpoint is not None:
            aside = self._directory / ".checkpoint"
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(checkpoint, aside)
            number = _number(former[-1]) + 1 if former else 1
            aside.rename(self._directory / f"{_CHECKPOINT}{number}")
        if self.world_size > 1:
            dist.barrier()
        # At any moment there is a whole one, and no worker reads an old one any more.
        for old in former:
            shutil.rmtree(old)

    @contextmanager
    def last_checkpoint(self) -> Iterator[Path | None]:
        yield kept_checkpoint(self._directory)


def kept_checkpoint(directory: Path) -> Path | None:
    """The directory of the last checkpoint that `LocalSurroundings` kept in `directory`."""
    kept = _kept(directory)
    return kept[-1] if kept else None


def _kept(directory: Path) -> list[Path]:
    """The oldest first: a process that was killed may have left the one before the last."""
    return sorted(directory.glob(f"{_CHECKPOINT}[0-9]*"), key=_number)


def _number(kept: Path) -> int:
    return int(kept.name.removeprefix(_CHECKPOINT))
