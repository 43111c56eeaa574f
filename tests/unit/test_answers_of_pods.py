"""What several pods answered, as one answer."""

from __future__ import annotations

import numpy as np
import pytest

from aiaas_hub.adapters.triton_kubernetes.answers import agree, sum_of
from aiaas_hub.domain.ports import ModelCounts

ROWS = np.array([[1.0, -200.0], [3.0, np.nan]], dtype=np.float32)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (ROWS.copy(), True),
        # The last digits of a sum depend on the processor.
        (ROWS + np.float32(0.01), True),
        (ROWS + np.float32(1), False),
        (ROWS[:1], False),
        (ROWS.astype(np.float64), False),
        (np.nan_to_num(ROWS), False),
    ],
)
def test_answers_agree_but_for_the_last_digits(other: np.ndarray, same: bool) -> None:
    assert agree({"y": ROWS}, {"y": other}) is same


def test_other_tensors_and_other_labels_never_agree() -> None:
    labels = np.array([1, 2])
    assert agree({"y": labels}, {"y": labels.copy()})
    assert not agree({"y": labels}, {"y": labels + 1})
    assert not agree({"y": labels}, {"z": labels})


def test_counts_are_added() -> None:
    one = ModelCounts(
        rows=3, requests=2, queue_ns=5, runs=2, compute_ns=7, batch_sizes={1: 1, 2: 1}
    )
    other = ModelCounts(rows=2, requests=1, queue_ns=1, runs=1, compute_ns=1, batch_sizes={2: 1})
    assert sum_of(one, other) == ModelCounts(5, 3, 6, 3, 8, {1: 1, 2: 2})
