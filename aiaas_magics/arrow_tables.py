"""What may be handed over as a table, as Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def to_arrow(frame: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
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


def _no_table(frame: Any) -> InvalidInput:
    remedy = "Give a pandas DataFrame."
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
