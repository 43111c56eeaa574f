"""Which rows go into which part: by chance, by a seed, in exact shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROUNDING = 1e-9


def assign(
    rows: int, shares: Sequence[float], seed: int, classes: NDArray[np.int32] | None = None
) -> NDArray[np.uint8]:
    """The part of each row, uint8 of shape (rows,). `shares` are 1 together.

    Each part gets its share of the rows, or of each class's rows (`classes`, int32 of shape
    (rows,)), to within one. Which part gets a row that does not divide is left to chance, in the
    proportion of what each lacks: parts of many small classes have their shares, too.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    if classes is None:
        return _labels(rows, shares, generator)
    parts = np.empty(rows, dtype=np.uint8)
    # Sorted once: a look at all rows for each class would be one look too many for many classes.
    order = np.argsort(classes, kind="stable")
    borders = np.flatnonzero(np.diff(classes[order])) + 1
    for members in np.split(order, borders):
        parts[members] = _labels(len(members), shares, generator)
    return parts


def _labels(
    rows: int, shares: Sequence[float], generator: np.random.Generator
) -> NDArray[np.uint8]:
    import numpy as np

    exact = np.asarray(shares) * rows
    counts = np.floor(exact + _ROUNDING).astype(np.int64)
    lacking = np.clip(exact - counts, 0, None)
    left = rows - int(counts.sum())
    if left:
        # Systematic sampling (Madow, 1949): each part is taken with the probability it lacks.
        ends = np.cumsum(lacking) * (left / lacking.sum())
        marks = generator.random() + np.arange(left)
        counts[np.minimum(np.searchsorted(ends, marks, side="right"), len(counts) - 1)] += 1
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    generator.shuffle(labels)
    return labels
