"""How far a served model's answers may be from its source's, in the precision that was asked for.

Fewer bits change every number a little, and what counts is whether the answers stay: so beside the
largest difference, the held-out rows that are answered otherwise decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_hub.schemas import agreement
from aiaas_hub.schemas.endpoints import (
    Conversion,
    ModelFigures,
    Parity,
    Precision,
    ServingOptions,
)
from aiaas_hub.schemas.errors import InvalidInput

TOLERANCES: dict[Precision | None, float] = {None: 1e-3, "fp16": 1e-2, "int8": 0.25}
"""Largest difference accepted, relative to the largest expected output (at least 1)."""
MOST_OTHERS: dict[Precision, float] = {"fp16": 0.01, "int8": 0.02}
"""Largest share of held-out rows that may be answered otherwise."""

Tensors = Mapping[str, NDArray[Any]]


def tolerance(options: ServingOptions) -> float:
    return TOLERANCES[options.precision]


def conversion(
    precision: Precision,
    before: ModelFigures,
    after: ModelFigures,
    infer: Callable[[Tensors], Tensors],
    inputs: Tensors,
    expected: Tensors,
) -> Conversion:
    """What became of the model, and how many of the held-out rows it answers otherwise."""
    answers = infer(inputs)
    name = agreement.judged_output(expected, answers)
    # Where nothing can be compared the largest difference is infinite, and decides.
    same = np.ones(1) if name is None else agreement.alike(expected[name], answers[name])
    return Conversion(
        precision=precision,
        before=before,
        after=after,
        tolerance=TOLERANCES[precision],
        disagreement=float(1 - same.mean()),
        max_disagreement=MOST_OTHERS[precision],
    )


def check_size(precision: Precision, before: ModelFigures, after: ModelFigures) -> None:
    """Raise `InvalidInput` for a model that fewer bits do not make smaller."""
    if after.size_bytes >= before.size_bytes:
        raise InvalidInput(
            f"{precision} makes this model no smaller ({before.size_bytes:,} bytes before, "
            f"{after.size_bytes:,} after): it has little that can be written in fewer bits.",
            remedy="Publish it without --precision.",
        )


def check(measured: Parity, scale: float) -> None:
    """Raise `InvalidInput`, with the numbers, where the converted model answers too differently."""
    found = measured.conversion
    if found is None:
        return
    close = measured.max_abs <= found.tolerance * scale
    if close and found.disagreement <= found.max_disagreement:
        return
    raise InvalidInput(
        f"In {found.precision} the model answers {found.disagreement:.1%} of {measured.rows} "
        f"held-out rows otherwise, and {found.max_disagreement:.0%} are allowed; the largest "
        f"difference is {measured.max_abs:.3g}, and {found.tolerance * scale:.3g} is allowed. "
        f"It has {found.after.size_bytes:,} bytes instead of {found.before.size_bytes:,}, and "
        f"takes {found.after.p50_ms:.2f} ms a row instead of {found.before.p50_ms:.2f}.",
        remedy="Publish it without --precision"
        + (", or with --precision fp16." if found.precision == "int8" else "."),
    )
