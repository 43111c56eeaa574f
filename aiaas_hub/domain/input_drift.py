"""Does what callers send still look like what a model was made from?

Compared with is what the model was verified with, its held-out rows: they are the one sample of the
training data that every published version has, in the very form in which the model takes it. A
dataset's profile would be of columns, before whatever the training made of them.

The measure is the population stability index over bins that hold a tenth of the held-out rows
each. What it means, 0.1 and 0.25, is N. Siddiqi's rule (Credit Risk Scorecards, 2006). It is not 0
for two samples of the same: times N·M/(N+M) it is then spread like chi-squared with one degree of
freedom less than there are bins (B. Yurdakul, Statistical Properties of Population Stability Index,
2018). So few rows show only large changes, and nothing is said that may well be chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_hub.schemas.drift import Change, FeatureDrift, InputReference, ReferenceFeature
from aiaas_hub.schemas.input_bins import InputBins
from aiaas_hub.schemas.models import Signature, TensorSpec

MIN_REFERENCE_ROWS = 50
"""Five in each bin."""
MIN_ROWS = 200
"""Twenty in each bin."""
MAX_FEATURES = 128
"""Each is counted with each request, and is a dozen numbers in Triton."""
SOME, MUCH = 0.1, 0.25
_BINS = 10
_BY_CHANCE = 0.001
_SMOOTHING = 0.5
"""Rows that each bin has more than were counted in it: the index of an empty one is infinite."""

Counts = NDArray[np.int64]
"""Rows, `[features, places]`; see `InputBins`."""


def reference(inputs: Mapping[str, NDArray[Any]], signature: Signature) -> InputReference:
    """How held-out rows are spread, or why that is not compared."""
    rows = len(next(iter(inputs.values())))
    numeric = [spec for spec in signature.inputs if spec.dtype != "string"]
    omitted = [spec.name for spec in signature.inputs if spec.dtype == "string"]

    def nothing(reason: str) -> InputReference:
        return InputReference(rows=rows, omitted=omitted, reason=reason)

    if signature.takes_image:
        return nothing("Inputs are compared where they are numbers; these are images.")
    if not numeric:
        return nothing("Inputs are compared where they are numbers; these are texts.")
    if any(None in spec.shape for spec in numeric):
        return nothing("Inputs are compared where each row has the same count of numbers.")
    count = sum(math.prod(size for size in spec.shape if size) for spec in numeric)
    if count > MAX_FEATURES:
        return nothing(
            f"Inputs are compared where a row has at most {MAX_FEATURES} numbers; these have "
            f"{count:,}."
        )
    if rows < MIN_REFERENCE_ROWS:
        return nothing(
            f"The model came with {rows} held-out rows, and comparing takes at least "
            f"{MIN_REFERENCE_ROWS}: publish it again with more of them as eval_input."
        )
    features = []
    for spec in numeric:
        values = inputs[spec.name].reshape(rows, -1).astype(np.float64)
        features += [
            ReferenceFeature(name=name, tensor=spec.name, edges=_edges(column), counts=[])
            for name, column in zip(_names(spec), values.T, strict=True)
        ]
    counts = bins(features).count(inputs)
    for feature, found in zip(features, counts, strict=True):
        feature.counts = found[: len(feature.edges) + 2].tolist()
    return InputReference(rows=rows, features=features, omitted=omitted)


def bins(features: list[ReferenceFeature]) -> InputBins:
    return InputBins((feature.tensor, feature.edges) for feature in features)


def _names(spec: TensorSpec) -> list[str]:
    shape = [size or 1 for size in spec.shape]
    if math.prod(shape) == 1:
        return [spec.name]
    return [f"{spec.name}[{','.join(map(str, at))}]" for at in np.ndindex(*shape)]


def _edges(column: NDArray[np.float64]) -> list[float]:
    """Of bins with a tenth of the values each; of a few values, a bin for each, and one for what
    is below and above all of them."""
    finite = column[np.isfinite(column)]
    values = np.unique(finite)
    if not values.size:
        return [0.0]
    if values.size > _BINS:
        edges = np.unique(np.quantile(finite, np.arange(1, _BINS) / _BINS))
        if edges.size > 1:
            return [float(edge) for edge in edges]
        # Nearly all are one value: what lies beside it is told apart.
        return [float(edges[0]), float(np.nextafter(edges[0], np.inf))]
    between = (values[1:] + values[:-1]) / 2
    return [float(values[0]), *map(float, between), float(np.nextafter(values[-1], np.inf))]


def compare(expected: InputReference, counts: Counts) -> list[FeatureDrift]:
    """Each feature's change, the largest first. `counts` are of `expected`'s features, at least
    `MIN_ROWS` rows."""
    found = [
        _compare(feature, np.asarray(seen[: len(feature.edges) + 2], np.float64))
        for feature, seen in zip(expected.features, counts, strict=True)
    ]
    return sorted(found, key=lambda drift: drift.psi, reverse=True)


def _compare(feature: ReferenceFeature, seen: NDArray[np.float64]) -> FeatureDrift:
    expected = np.asarray(feature.counts, np.float64)
    used = expected + seen > 0
    index = psi(expected[used], seen[used])
    chance = psi_by_chance(int(used.sum()), expected.sum(), seen.sum())
    change: Change = "none"
    if index > chance and index >= SOME:
        change = "much" if index >= MUCH else "some"
    shares, seen_shares = expected / expected.sum(), seen / seen.sum()
    return FeatureDrift(
        name=feature.name,
        psi=index,
        chance=chance,
        change=change,
        edges=feature.edges,
        reference=shares[1:].tolist(),
        seen=seen_shares[1:].tolist(),
        reference_missing=float(shares[0]),
        seen_missing=float(seen_shares[0]),
    )


def psi(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Population stability index of two rows of counts over the same bins: the sum of
    (q - p) · ln(q / p) over their shares p and q."""
    p, q = (
        (counts + _SMOOTHING) / (counts.sum() + _SMOOTHING * len(counts))
        for counts in (expected, seen)
    )
    return float(np.sum((q - p) * np.log(q / p)))


def psi_by_chance(bins: int, expected_rows: float, seen_rows: float) -> float:
    """What the index of two samples of the same exceeds once in a thousand times.

    Chi-squared's quantile is E. B. Wilson's and M. M. Hilferty's approximation (1931).
    """
    freedom = max(1, bins - 1)
    spread = 2 / (9 * freedom)
    normal = NormalDist().inv_cdf(1 - _BY_CHANCE)
    quantile = freedom * (1 - spread + normal * math.sqrt(spread)) ** 3
    return float(quantile * (1 / expected_rows + 1 / seen_rows))
