"""A dataset inside a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import ray.data
    import torch
    from numpy.typing import NDArray

    from aiaas_magics.runtime.streaming import StreamingLoader


class RunDataset:
    """One of a run's datasets, as a Parquet file on this node."""

    def __init__(self, name: str, path: Path, rank: int, world_size: int) -> None:
        self.name = name
        self.path = path
        self._rank = rank
        self._world_size = world_size

    def __repr__(self) -> str:
        return f"<dataset {self.name}>"

    def to_pandas(self) -> pd.DataFrame:
        """The whole dataset, on every worker."""
        import pandas as pd

        return pd.read_parquet(self.path)

    def to_torch(
        self,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        columns: Sequence[str] | None = None,
        seed: int = 0,
        drop_last: bool = False,
        stream: bool = False,
    ) -> TensorLoader | StreamingLoader:
        """This worker's shard as batches `{column: tensor}`; list columns become matrices.

        All workers get equally many rows, a few of them twice where they do not divide, so
        that none of them waits for a batch that another does not have. With `shuffle` each
        iteration has an order of its own, the same one on all workers.

        With `stream` the shard is read from disk as it is needed, for a dataset that is larger
        than memory; shuffling then mixes rows that lie near each other, see `StreamingLoader`.
        """
        import pyarrow.parquet as pq

        from aiaas_magics.runtime.streaming import StreamingLoader

        if batch_size < 1:
            raise InvalidInput(
                f"batch_size is {batch_size}.", remedy="Give a batch size of at least 1."
            )
        if stream:
            return StreamingLoader(
                self.path,
                columns,
                _array,
                batch_size,
                shuffle,
                seed,
                drop_last,
                self._rank,
                self._world_size,
            )
        table = pq.read_table(self.path, columns=list(columns) if columns else None)
        arrays = {name: _array(name, table.column(name)) for name in table.column_names}
        return TensorLoader(
            arrays,
            table.num_rows,
            batch_size,
            shuffle,
            seed,
            drop_last,
            self._rank,
            self._world_size,
        )

    def to_ray(self) -> ray.data.Dataset:
        """A Ray Data dataset over the whole file."""
        import ray.data

        return ray.data.read_parquet(str(self.path))


class TensorLoader:
    """Iterates over a worker's shard, again and again; `len()` is its number of batches."""

    def __init__(
        self,
        arrays: dict[str, NDArray[np.generic]],
        rows: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self._arrays = arrays
        self._rows = rows
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0

    @property
    def rows(self) -> int:
        """Rows of this worker's shard."""
        return -(-self._rows // self._world_size)

    def __len__(self) -> int:
        whole, rest = divmod(self.rows, self._batch_size)
        return whole + (1 if rest and not self._drop_last else 0)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        import numpy as np
        import torch

        order = np.arange(self._rows)
        if self._shuffle:
            np.random.default_rng((self._seed, self._epoch)).shuffle(order)
        self._epoch += 1
        padded = np.resize(order, self.rows * self._world_size)
        mine = padded[self._rank :: self._world_size]
        for batch in range(len(self)):
            chosen = mine[batch * self._batch_size : (batch + 1) * self._batch_size]
            yield {name: torch.from_numpy(array[chosen]) for name, array in self._arrays.items()}


def _array(name: str, column: pa.ChunkedArray) -> NDArray[np.generic]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute

    def refuse(reason: str) -> InvalidInput:
        return InvalidInput(
            f"Column {name!r} cannot become a tensor: {reason}.",
            remedy="Name the columns to use: to_torch(…, columns=[…]), or start from to_pandas().",
        )

    if column.null_count:
        raise refuse(f"it has {column.null_count} missing values")
    kind = column.type
    shape: list[int] = [len(column)]
    values: Any = column.combine_chunks()
    while (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        lengths = set(pa.compute.list_value_length(values).to_pylist())
        if len(lengths) > 1:
            raise refuse("its lists have different lengths")
        shape.append(lengths.pop() if lengths else 0)
        values = values.flatten()
        kind = values.type
        if values.null_count:
            raise refuse("its lists have missing values")
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not numeric:
        raise refuse(f"its type is {column.type}")
    flat = values.to_numpy(zero_copy_only=False)
    # torch.from_numpy wants memory that it may write to.
    return np.array(flat, copy=True).reshape(shape)
