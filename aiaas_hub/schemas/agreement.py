"""When two models answer alike: one rule for the service's judge and the notebook's comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPREAD = 0.1
"""Numbers differ beyond this share of the first one's standard deviation."""


def judged_output(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """The output by which two answers are compared: the first that both have in one form, one
    with a choice among classes before others; None where there is none."""
    common = [
        name
        for name, array in first.items()
        if name in second and array.ndim >= 1 and second[name].shape == array.shape
    ]
    return next((name for name in common if is_choice(first[name])), next(iter(common), None))


def is_choice(array: NDArray[Any]) -> bool:
    """Whether rows are chosen from by their largest value: floats `[batch, classes]`."""
    return array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f"


def choices(array: NDArray[Any]) -> NDArray[Any]:
    """The class of each row; of an output that has none, its values, `[batch, …]`."""
    return array.argmax(axis=1) if is_choice(array) else array


def alike(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Per row whether two outputs of one shape say the same, `[batch]`.

    Rows of `[batch, classes]` by their largest value; integers and booleans by equality; other
    numbers where none differs by more than a tenth of `first`'s standard deviation.
    """
    import numpy as np

    if is_choice(first):
        # What is not a number chooses nothing.
        sound = np.isfinite(first).all(axis=1) == np.isfinite(second).all(axis=1)
        return np.asarray((choices(first) == choices(second)) & sound)
    rows = len(first)
    if first.dtype.kind != "f":
        return np.asarray((first == second).reshape(rows, -1).all(axis=1))
    a, b = first.astype(np.float64), second.astype(np.float64)
    finite = a[np.isfinite(a)]
    tolerance = SPREAD * float(finite.std()) if finite.size else 0.0
    close = np.isclose(a, b, rtol=1e-5, atol=tolerance, equal_nan=True)
    return np.asarray(close.reshape(rows, -1).all(axis=1))
