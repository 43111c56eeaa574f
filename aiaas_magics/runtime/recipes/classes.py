"""Classes of a classification: their names, and what the run tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.recipes.descent import say
from aiaas_magics.runtime.recipes.evaluation import Confusion, Measure

if TYPE_CHECKING:
    import pandas as pd

    from aiaas_magics.runtime.context import Context

_MAX_CLASSES = 10_000


def encode(target: pd.Series[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the classes in their values' order, and each row's index among them.

    Raises `InvalidInput` for fewer than two classes, or so many that they are none.
    """
    values, codes = np.unique(target.to_numpy(), return_inverse=True)
    if not 2 <= len(values) <= _MAX_CLASSES:
        raise InvalidInput(
            f"The target has {len(values)} different values, which are no classes.",
            remedy="Name another one: --param target=….",
        )
    return [str(value) for value in values], codes.astype(np.int64)


def no_column(name: str, frame: pd.DataFrame) -> InvalidInput:
    known = ", ".join(str(column) for column in list(frame.columns)[:20])
    return InvalidInput(f"The dataset has no column {name!r}.", remedy=f"Its columns are: {known}.")


def tell(ctx: Context, measure: Measure) -> None:
    """The last evaluation in the run's log, and a confusion matrix in its metrics too."""
    if isinstance(measure, Confusion):
        say(ctx, f"held-out rows by class:\n{measure.table()}")
        if cells := measure.cells():
            ctx.report(None, **cells)
