"""A worker's shard of a dataset, read from disk as it is needed: it may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

_READ_ROWS = 8192
MIXED_ROWS = 65_536
"""Rows that are mixed with each other at a time, beside the order of the file's row groups."""


class StreamingLoader:
    """Iterates over a worker's shard, again and again; `len()` is its number of batches.

    Without `shuffle` a shard is a run of consecutive rows. With it the file's row groups are put
    in an order that seed and epoch decide, the same on all workers, who share the rows in that
    order among them; then rows are mixed within some `MIXED_ROWS`. All workers get equally many
    rows, a few of them twice where they do not divide.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] | None,
        to_array: Callable[[str, pa.ChunkedArray], NDArray[np.generic]],
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
        mixed_rows: int = MIXED_ROWS,
    ) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._columns = None if columns is None else list(columns)
        self._to_array = to_array
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size
        self._mixed_rows = max(mixed_rows, batch_size)
        self._epoch = 0
        metadata = pq.read_metadata(path)
        groups = range(metadata.num_row_groups)
        self._sizes: list[int] = [metadata.row_group(group).num_rows for group in groups]

    @property
    def rows(self) -> int:
        """Rows of this worker's shard."""
        return -(-sum(self._sizes) // self._world_size)

    def __len__(self) -> int:
        whole, rest = divmod(self.rows, self._batch_size)
        return whole + (1 if rest and not self._drop_last else 0)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        import numpy as np
        import torch

        epoch, self._epoch = self._epoch, self._epoch + 1
        order = np.arange(len(self._sizes))
        if self._shuffle:
            np.random.default_rng((self._seed, epoch)).shuffle(order)
        # Each worker mixes its own rows in its own way.
        mixing = np.random.default_rng((self._seed, epoch, self._rank))
        amount = self._mixed_rows if self._shuffle else self._batch_size
        for arrays in _regrouped(self._shard(order.tolist()), amount, self._batch_size):
            count = len(next(iter(arrays.values())))
            places = mixing.permutation(count) if self._shuffle else np.arange(count)
            for first in range(0, count, self._batch_size):
                chosen = places[first : first + self._batch_size]
                if len(chosen) < self._batch_size and self._drop_last:
                    return
                yield {name: torch.from_numpy(array[chosen]) for name, array in arrays.items()}

    def _shard(self, order: Sequence[int]) -> Iterator[Arrays]:
        """This worker's rows, of the groups in this order; after the last comes the first."""
        skipped, wanted = self._rank * self.rows, self.rows
        while wanted > 0 and any(self._sizes):
            for group in order:
                if skipped >= self._sizes[group]:
                    skipped -= self._sizes[group]
                    continue
                for part in self._read(group):
                    here = part.slice(min(skipped, part.num_rows), wanted)
                    skipped -= min(skipped, part.num_rows)
                    if here.num_rows:
                        wanted -= here.num_rows
                        yield {n: self._to_array(n, here.column(n)) for n in here.column_names}
                    if not wanted:
                        return

    def _read(self, group: int) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path, memory_map=True) as file:
            batches = file.iter_batches(_READ_ROWS, row_groups=[group], columns=self._columns)
            for batch in batches:
                yield pa.Table.from_batches([batch])


def _regrouped(parts: Iterator[Arrays], amount: int, batch_size: int) -> Iterator[Arrays]:
    """The same rows in tables of at least `amount` rows and whole batches, save the last."""
    import numpy as np

    waiting: list[Arrays] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(next(iter(part.values())))
        if count >= amount:
            whole = {name: np.concatenate([w[name] for w in waiting]) for name in part}
            full = count - count % batch_size
            yield {name: array[:full] for name, array in whole.items()}
            waiting = [{name: array[full:] for name, array in whole.items()}]
            count -= full
    if count:
        names = waiting[0]
        yield {name: np.concatenate([w[name] for w in waiting]) for name in names}
