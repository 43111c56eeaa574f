"""What may be handed over as a table, as Arrow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

_ITEMS = 4096
"""Of a torch Dataset at a time."""


def to_arrow(frame: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if (table := _of_hugging_face(frame)) is not None:
        return table
    if (arrays := _arrays(frame)) is not None:
        return table_of_arrays(arrays)
    if (items := _torch_items(frame)) is not None:
        return _of_items(frame, items)
    if not hasattr(frame, "to_parquet") and hasattr(frame, "__arrow_c_stream__"):
        try:
            return pa.table(frame)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise _no_table(frame) from error
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise _no_table(frame)
    _check_column_names(frame)
    named_index = any(name is not None for name in frame.index.names)
    flat = frame.reset_index() if named_index else frame
    try:
        # An index without a name is only the order of the rows.
        return pa.Table.from_pandas(flat, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _unsupported(flat, error) from error


def _of_hugging_face(frame: Any) -> pa.Table | None:
    """The Arrow table of a `datasets.Dataset`, told by its shape: none of it is imported."""
    module = type(frame).__module__.partition(".")[0]
    if module != "datasets":
        return None
    if hasattr(frame, "keys"):
        first = next(iter(frame.keys()), "train")
        raise InvalidInput(
            f"This is {len(frame)} datasets by name.",
            remedy=f"Store one at a time: put(name, dataset[{first!r}]).",
        )
    if not hasattr(frame, "with_format") or not hasattr(frame, "__len__"):
        raise InvalidInput(
            "A dataset that is streamed has no table.", remedy="Load it without streaming=True."
        )
    # Its own rows in its own order, whatever was selected, sorted or shuffled of a larger table.
    return frame.with_format("arrow")[:]


def _arrays(frame: Any) -> dict[str, NDArray[Any]] | None:
    """The columns of a matrix, or of a dict of arrays with equally many rows."""
    import numpy as np

    if isinstance(frame, np.ndarray):
        if frame.dtype.names:
            return {name: frame[name] for name in frame.dtype.names}
        if frame.ndim != 2:
            raise InvalidInput(
                f"An array of {frame.ndim} dimensions is not a table.",
                remedy="Give a matrix, or name the columns: put(name, {'x': array}).",
            )
        return {f"column_{number}": frame[:, number] for number in range(frame.shape[1])}
    if not isinstance(frame, dict) or not frame:
        return None
    if not all(isinstance(value, np.ndarray) for value in frame.values()):
        return None
    rows = {len(value) if value.ndim else -1 for value in frame.values()}
    if len(rows) > 1 or -1 in rows:
        raise InvalidInput(
            "The arrays have different numbers of rows.", remedy="Give each as many rows."
        )
    return {str(name): value for name, value in frame.items()}


def table_of_arrays(arrays: dict[str, NDArray[Any]]) -> pa.Table:
    """A column for each array; one of more dimensions becomes lists of its trailing shape."""
    import pyarrow as pa

    return pa.table({name: _column(name, array) for name, array in arrays.items()})


def _column(name: str, array: NDArray[Any]) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    try:
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InvalidInput(
            f"Column {name!r} holds values that Parquet has no type for: {array.dtype}.",
            remedy="Convert it, for example with astype('float32') or astype(str).",
        ) from error
    for size in reversed(array.shape[1:]):
        if not size:
            raise InvalidInput(
                f"Column {name!r} has no values in each row.", remedy="Leave it out."
            )
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _torch_items(frame: Any) -> Iterator[Any] | None:
    """The items of a torch Dataset."""
    torch = sys.modules.get("torch.utils.data")
    if torch is None or not isinstance(frame, torch.Dataset):
        return None
    if isinstance(frame, torch.IterableDataset):
        items: Iterator[Any] = iter(frame)
        return items
    return (frame[number] for number in range(len(frame)))


def _of_items(frame: Any, items: Iterator[Any]) -> pa.Table:
    """Dicts by their keys, pairs as `x` and `y`, other tuples by place."""
    import numpy as np
    import pyarrow as pa

    parts = []
    while batch := [_named(item) for item in islice(items, _ITEMS)]:
        names = list(batch[0])
        if any(list(item) != names for item in batch):
            raise InvalidInput(
                "The items of this dataset have different keys.", remedy="Give each the same."
            )
        try:
            stacked = {name: np.stack([item[name] for item in batch]) for name in names}
        except ValueError as error:
            raise InvalidInput(
                f"The items of this dataset differ in shape: {error}.",
                remedy="Pad them, or store them as lists in a DataFrame.",
            ) from error
        parts.append(table_of_arrays(stacked))
    if not parts:
        raise _no_table(frame)
    try:
        return pa.concat_tables(parts)
    except pa.ArrowInvalid as error:
        raise InvalidInput(
            "The items of this dataset differ in shape or type.", remedy="Give each the same."
        ) from error


def _named(item: Any) -> dict[str, Any]:
    import numpy as np

    if isinstance(item, dict):
        named = {str(name): value for name, value in item.items()}
    elif isinstance(item, (tuple, list)):
        names = ["x", "y"] if len(item) == 2 else [f"column_{n}" for n in range(len(item))]
        named = dict(zip(names, item, strict=True))
    else:
        named = {"x": item}
    # A tensor gives its memory; what is not on this machine's is fetched.
    return {
        name: value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
        for name, value in named.items()
    }


def _no_table(frame: Any) -> InvalidInput:
    remedy = "Give a DataFrame, an Arrow table, arrays by name, or a torch or Hugging Face dataset."
    if hasattr(frame, "to_frame"):
        remedy = "Give a DataFrame: series.to_frame('name')."
    return InvalidInput(f"A {type(frame).__name__} is not a table.", remedy=remedy)


def _check_column_names(frame: pd.DataFrame) -> None:
    odd = [column for column in frame.columns if not isinstance(column, str)]
    if odd:
        raise InvalidInput(
            f"Column names must be texts; {odd[0]!r} is not.",
            remedy="Rename them: df.columns = df.columns.astype(str).",
        )
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise InvalidInput(
            f"There are two columns {doubled[0]!r}.", remedy="Rename or drop one of them."
        )


def _unsupported(frame: pd.DataFrame, error: Exception) -> InvalidInput:
    """The error that names the column: Arrow's own text does not always."""
    import numpy as np
    import pyarrow as pa

    for column in frame.columns:
        values = frame[column]
        try:
            pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError):
            # Arrow takes arrays of one dimension; lists in lists are the others.
            arrays = any(isinstance(value, np.ndarray) for value in values)
            conversion = "map(lambda a: a.tolist())" if arrays else "astype(str)"
            return InvalidInput(
                f"Column {column!r} holds values that Parquet has no type for.",
                remedy=f"Convert it, for example df[{column!r}] = df[{column!r}].{conversion}.",
            )
    return InvalidInput(
        f"The table cannot be stored as Parquet: {error}", remedy="Convert the column it names."
    )
