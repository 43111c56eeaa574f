"""A worker of Ray Train, as a `Context` sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class RaySurroundings:
    """Only inside a function that Ray Train runs."""

    def __init__(self) -> None:
        import ray.train
        import ray.train.torch

        worker = ray.train.get_context()
        self.rank: int = worker.get_world_rank()
        self.world_size: int = worker.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        import ray.train

        if checkpoint is None:
            ray.train.report(dict(metrics))
            return
        kept = ray.train.Checkpoint.from_directory(checkpoint)
        ray.train.report(dict(metrics), checkpoint=kept)

    @contextmanager
    def last_checkpoint(self) -> Iterator[Path | None]:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as directory:
            yield Path(directory)
