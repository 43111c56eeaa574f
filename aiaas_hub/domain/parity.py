"""Parity: does the served model answer as its source model did?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_hub.schemas import strings
from aiaas_hub.schemas.endpoints import MAX_BATCH, Parity
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature

Array = NDArray[Any]
Infer = Callable[[Mapping[str, Array]], Mapping[str, Array]]

LATENCY_SAMPLES = 25


def split_evaluation(
    tensors: Mapping[str, Array], signature: Signature
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Held-out inputs and the source model's outputs, by tensor name. Of a label there is none:
    see `check_labels`.

    Raises `InvalidInput` if a tensor of the signature is missing or has another shape or type.
    """
    found: dict[str, dict[str, Array]] = {"input": {}, "output": {}}
    rows = set()
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.kind == "label":
                continue
            array = tensors.get(f"{kind}.{spec.name}")
            if array is None or array.ndim == 0:
                raise InvalidInput(f"The held-out rows lack the {kind} {spec.name}.")
            if spec.dtype == "string":
                array = strings.unpack(array)
            fits = len(array.shape) == len(spec.shape) + 1 and all(
                wanted is None or wanted == got
                for wanted, got in zip(spec.shape, array.shape[1:], strict=False)
            )
            wanted_type = np.dtype("object" if spec.dtype == "string" else spec.dtype)
            if array.dtype != wanted_type or not fits:
                raise InvalidInput(
                    f"The held-out rows of {spec.name} are {array.dtype}{list(array.shape[1:])}, "
                    f"its signature says {spec.dtype}{spec.shape}."
                )
            found[kind][spec.name] = array
            rows.add(array.shape[0])
    if len(rows) != 1 or 0 in rows:
        raise InvalidInput("The held-out rows differ in number between tensors, or are none.")
    return found["input"], found["output"]


def in_batches(infer: Infer, rows: Mapping[str, Array], size: int) -> Mapping[str, Array]:
    """The answer to all rows, asked for in batches of at most `size`."""
    count = len(next(iter(rows.values())))
    answers = [
        infer({name: array[start : start + size] for name, array in rows.items()})
        for start in range(0, count, size)
    ]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def warm_up(infer: Infer, inputs: Mapping[str, Array], instances: int, largest: int) -> None:
    """Ask for held-out rows in the largest batch and one by one, `instances` at the same time, so
    that none of them is idle and each has made room. Raises what `infer` does."""
    rows = len(next(iter(inputs.values())))
    with ThreadPoolExecutor(instances, thread_name_prefix="warm-up") as threads:
        for size in (largest, 1):
            part = np.arange(size) % rows
            batch = {name: array[part] for name, array in inputs.items()}
            for _ in threads.map(lambda _, batch=batch: infer(batch), range(3 * instances)):
                pass


def measure(
    infer: Infer,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    largest: int = MAX_BATCH,
) -> tuple[Parity, float]:
    """Ask `infer` for the held-out rows in batches of 1, 3 and the `largest`.

    Returns the parity and the scale of the expected outputs (largest magnitude, at least 1),
    against which a difference is judged. A missing output, another shape or a value that is not
    finite where the source's was makes the difference infinite.
    """
    rows = len(next(iter(inputs.values())))
    batches = sorted({1, min(3, largest), largest})
    worst = 0.0
    full: list[float] = []
    for size in batches:
        # All rows in the largest batch, over again where they do not fill it; the small batches
        # are about shapes, not about values.
        count = max(rows, size) if size == largest else size
        for start in range(0, count, size):
            part = np.arange(start, min(start + size, count)) % rows
            batch = {name: array[part] for name, array in inputs.items()}
            begin = time.perf_counter()
            answer = infer(batch)
            if len(part) == largest:
                full.append(time.perf_counter() - begin)
            for name, array in expected.items():
                worst = max(worst, difference(array[part], answer.get(name)))
    seconds = []
    one = {name: array[:1] for name, array in inputs.items()}
    for _ in range(LATENCY_SAMPLES):
        begin = time.perf_counter()
        infer(one)
        seconds.append(time.perf_counter() - begin)
    scale = max(1.0, *(magnitude(array) for array in expected.values()))
    parity = Parity(
        max_abs=worst,
        rows=rows,
        batches=batches,
        p50_ms=float(np.percentile(seconds, 50)) * 1000,
        p99_ms=float(np.percentile(seconds, 99)) * 1000,
        # The fastest: the first one still makes room for tensors of this size.
        rows_per_second=largest / max(min(full), 1e-9),
    )
    return parity, scale


def check_labels(signature: Signature, answer: Mapping[str, Array]) -> None:
    """Raise `InvalidInput` unless each row's label names the largest value of the first output.

    Not by the source model's labels: of two classes that are equally likely either may be named.
    """
    label = next((spec.name for spec in signature.outputs if spec.kind == "label"), None)
    if label is None or signature.labels is None:
        return
    said, scores = answer.get(label), answer[signature.outputs[0].name]
    right = [signature.labels[place].encode() for place in np.argmax(scores, axis=1)]
    if said is None or said.reshape(-1).tolist() != right:
        raise InvalidInput(
            f"Triton's {label!r} does not name the largest value.",
            remedy="Hand the model over again.",
        )


def difference(expected: Array, answer: Array | None) -> float:
    """Largest absolute difference; infinite where the two cannot be compared."""
    if answer is None or answer.shape != expected.shape:
        return float("inf")
    if expected.dtype == np.object_:
        # Strings are no nearer to each other for looking alike.
        return float("inf") if np.any(expected != answer) else 0.0
    if expected.dtype == np.bool_:
        return float(np.any(expected != answer))
    a, b = expected.astype(np.float64), answer.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if np.all(same):
        return 0.0
    gap = np.abs(a - b)[~same]
    return float("inf") if not np.all(np.isfinite(gap)) else float(np.max(gap))


def magnitude(array: Array) -> float:
    """Largest finite magnitude, without a copy of another type."""
    if array.dtype.kind in "bO":
        return 0.0
    finite = array[np.isfinite(array)]
    # As Python numbers: the magnitude of -128 does not fit into eight bits.
    return float(max(abs(finite.max().item()), abs(finite.min().item()))) if finite.size else 0.0
