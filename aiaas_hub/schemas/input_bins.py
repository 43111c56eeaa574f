"""In which bins the values of a model's inputs fall.

One file for both sides: the service counts the held-out rows with it, and the serving engine has a
copy beside its backend, which counts what callers send. So it imports numpy and nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEW_ROWS = 64


class InputBins:
    """Bins of each feature: one number of a row, as `tensor` is flattened.

    Place 0 holds what is no number (NaN); place 1 what is below the first edge; place i + 1 what is
    at least the edge i, counted from 1, and below the next.
    """

    def __init__(self, features: Iterable[tuple[str, list[float]]]) -> None:
        """Tensor and ascending edges of each feature: the features of a tensor together, and in
        its own order."""
        given = list(features)
        self._tensors = list(dict.fromkeys(tensor for tensor, _ in given))
        # Nothing is at least NaN: a feature with fewer edges has no further bins.
        self._edges = np.full((len(given), max(len(edges) for _, edges in given)), np.nan)
        for place, (_, edges) in enumerate(given):
            self._edges[place, : len(edges)] = edges
        self._places = self._edges.shape[1] + 2
        self._starts = np.arange(len(given)) * self._places

    @property
    def shape(self) -> tuple[int, int]:
        """Features and places."""
        return len(self._starts), self._places

    def count(self, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """How many rows have each feature in each place: `[features, places]`. `feed` is as a model
        is given it, rows first. Raises `ValueError` for another number of features."""
        flat = [feed[name].reshape(len(feed[name]), -1) for name in self._tensors]
        values = (flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)).astype(np.float64)
        if values.shape[1] != self._starts.size:
            raise ValueError(f"{values.shape[1]} numbers in a row, not {self._starts.size}")
        if len(values) < _FEW_ROWS:
            at_least = values[:, :, None] >= self._edges
            place = np.add.reduce(at_least, axis=-1, dtype=np.intp) + 1
        else:
            # Of many rows a third of the time, of one four times as much.
            place = np.ones(values.shape, np.intp)
            for edge in self._edges.T:
                place += values >= edge
        place[np.isnan(values)] = 0
        place += self._starts
        found = np.bincount(place.ravel(), minlength=self._starts.size * self._places)
        return found.reshape(self.shape)
