"""What several pods answered, as one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aiaas_hub.domain.ports import ModelCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AGREE = 1e-3
"""Pods may have other processors, whose sums differ in the last digits; relative to the largest."""


def agree(one: Mapping[str, NDArray[np.generic]], other: Mapping[str, NDArray[np.generic]]) -> bool:
    if one.keys() != other.keys():
        return False
    for name, array in one.items():
        if array.shape != other[name].shape or array.dtype != other[name].dtype:
            return False
        if array.dtype.kind != "f":
            if not np.array_equal(array, other[name]):
                return False
            continue
        left, right = array.astype(np.float64), other[name].astype(np.float64)
        scale = float(np.max(np.abs(left[np.isfinite(left)]), initial=1e-30))
        if not np.allclose(left, right, rtol=0, atol=_AGREE * scale, equal_nan=True):
            return False
    return True


def sum_of(one: ModelCounts, other: ModelCounts) -> ModelCounts:
    sizes = dict(one.batch_sizes)
    for rows, runs in other.batch_sizes.items():
        sizes[rows] = sizes.get(rows, 0) + runs
    return ModelCounts(
        rows=one.rows + other.rows,
        requests=one.requests + other.requests,
        queue_ns=one.queue_ns + other.queue_ns,
        runs=one.runs + other.runs,
        compute_ns=one.compute_ns + other.compute_ns,
        batch_sizes=sizes,
    )
