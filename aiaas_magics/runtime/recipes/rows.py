"""Which rows train and which are held out, and a worker's share of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiaas_hub.schemas.errors import InvalidInput

if TYPE_CHECKING:
    from aiaas_magics.runtime.context import Context

Indices = NDArray[np.int64]


def split(rows: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Indices to train on and to hold out, the same on every worker.

    Raises `InvalidInput` where that leaves one of them empty.
    """
    held = round(rows * share)
    if held == 0 or held == rows:
        raise InvalidInput(
            f"{rows} rows cannot be split with {share:g} of them held out.",
            remedy="Give a dataset with more rows, or another --param eval_split=….",
        )
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])


@dataclass(frozen=True)
class Shard:
    """Batches of indices for one worker. All workers have equally many of them.

    A few rows come twice where rows do not divide; `is_first` leaves those out of what is
    counted.
    """

    indices: Indices
    batch_size: int
    rank: int
    world_size: int
    seed: int

    @classmethod
    def of(cls, ctx: Context, indices: Indices, batch_size: int, seed: int) -> Shard:
        return cls(indices, batch_size, ctx.rank, ctx.world_size, seed)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self._rows // self.batch_size)

    @property
    def _rows(self) -> int:
        return -(-len(self.indices) // self.world_size)

    def shuffled(self, epoch: int) -> Iterator[Indices]:
        """An order of the epoch's own, the same whenever it is asked for."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.indices)
        for batch, _ in self._batches(order):
            yield batch

    def in_order(self) -> Iterator[tuple[Indices, NDArray[np.bool_]]]:
        """Each batch and which of its rows are there for the first time."""
        return self._batches(self.indices)

    def _batches(self, order: Indices) -> Iterator[tuple[Indices, NDArray[np.bool_]]]:
        padded = np.resize(order, self._rows * self.world_size)
        is_first = np.arange(len(padded)) < len(order)
        mine = slice(self.rank, None, self.world_size)
        padded, is_first = padded[mine], is_first[mine]
        for start in range(0, len(padded), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield padded[part], is_first[part]
