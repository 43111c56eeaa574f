"""What a person types for a model, rows or a text, and how its answer reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics import display

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiaas_magics.endpoint import Endpoint

MOST_ROWS = 100
_LINE = 100
"""Numbers that one still types on a line."""
_SHOWN_VALUES = 12
_SHOWN_ROWS = 20
_SHOWN_TEXT = 500
_SHOWN_TOKENS = 100
_STRING = "string"
_SAMPLE_TEXT = "It is better than I hoped."


def parse_rows(text: str, signature: Signature) -> dict[str, NDArray[np.generic]]:
    """Arrays by input's name, batch first.

    `text` is JSON (rows, one row, or `{"input": rows}`), or numbers: a row for each line. For a
    model that takes a text it is that text, with all its lines. Raises `InvalidInput` with what
    would do; for a model that takes images always, as they are not typed.
    """
    if signature.takes_image:
        # Not even a path: what is typed in a page must not read files of this machine.
        raise InvalidInput("The model takes images.", remedy=_how(signature))
    if takes_text(signature):
        return _from_text(text, signature.inputs[0])
    text = text.strip()
    if not text:
        raise InvalidInput("There are no rows to send.", remedy=_how(signature))
    if text[0] in "[{":
        return _from_json(text, signature)
    if len(signature.inputs) > 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidInput(f"The model has the inputs {names}.", remedy=_how(signature))
    spec = signature.inputs[0]
    if _is_string(spec):
        raise InvalidInput("These rows are not JSON.", remedy=_how(signature))
    rows = [_numbers(line, spec, signature) for line in text.splitlines() if line.strip()]
    return {spec.name: _stacked(rows, spec, signature)}


def takes_text(signature: Signature) -> bool:
    """Whether its only input is one string, and no file's bytes."""
    spec = signature.inputs[0]
    if signature.takes_image:
        return False
    return len(signature.inputs) == 1 and _is_string(spec) and spec.shape in ([], [1], [None])


def example_rows(signature: Signature) -> str:
    """One row of zeros, or a text, to be typed over; nothing where files are taken."""
    if signature.takes_image:
        return ""
    if takes_text(signature):
        return _SAMPLE_TEXT
    shapes = {spec.name: [size or 1 for size in spec.shape] for spec in signature.inputs}
    if len(shapes) == 1 and not _is_string(signature.inputs[0]):
        (shape,) = shapes.values()
        if math.prod(shape) <= _LINE:
            return " ".join(["0"] * math.prod(shape))
    zeros = {
        spec.name: [_filled(shapes[spec.name], "" if _is_string(spec) else 0)]
        for spec in signature.inputs
    }
    return json.dumps(zeros if len(zeros) > 1 else next(iter(zeros.values())))


def takes(signature: Signature) -> str:
    """What it takes, in a sentence."""
    return _how(signature)


@dataclass(frozen=True)
class Answer:
    """What a model said to rows that somebody typed."""

    outputs: dict[str, NDArray[np.generic]]
    labels: list[str] | None
    version: int | None

    @property
    def titles(self) -> list[str]:
        return ["row", *(["label"] if self._has_labels else []), *self._shown]

    @property
    def _has_labels(self) -> bool:
        """Whether the largest number is told by its label: not where one of the outputs is the
        label already, nor where there are no numbers."""
        return bool(self.labels) and all(map(_is_of_numbers, self.outputs.values()))

    @property
    def _shown(self) -> dict[str, NDArray[np.generic]]:
        """What says most comes first: labels before numbers."""
        return dict(sorted(self.outputs.items(), key=lambda output: _is_of_numbers(output[1])))

    @property
    def lines(self) -> list[list[str]]:
        """A line for each row that was sent, at most `_SHOWN_ROWS`: its label, if the model has
        them, and its numbers."""
        first = next(iter(self.outputs.values()))
        lines = []
        for row in range(min(first.shape[0], _SHOWN_ROWS)):
            cells = [str(row + 1)]
            known = self.labels
            if known and self._has_labels:
                place = int(first[row].argmax())
                cells.append(known[place] if place < len(known) else f"number {place}")
            lines.append(cells + [_values(array[row]) for array in self._shown.values()])
        return lines

    @property
    def said(self) -> str:
        said = f"answered by version {self.version}" if self.version is not None else ""
        rows = next(iter(self.outputs.values())).shape[0]
        return said if rows <= _SHOWN_ROWS else f"{said}; the first {_SHOWN_ROWS} of {rows} rows"

    def html(self) -> str:
        """The same as safe HTML."""
        shown = []
        words = sum(not _is_of_numbers(array) for array in self.outputs.values())
        words += self._has_labels
        for number, *cells in self.lines:
            said = [f"<b>{display.escape(cell)}</b>" for cell in cells[:words]]
            shown.append([number, *said, *map(display.code, cells[words:])])
        return display.table(self.titles, shown) + display.muted(self.said)


def _is_of_numbers(array: NDArray[np.generic]) -> bool:
    return array.dtype.kind in "biuf"


def ask(
    endpoint: Endpoint,
    read: Callable[[Signature], dict[str, NDArray[np.generic]]],
    version: int | None = None,
) -> Answer:
    """Send what somebody gave, read by the model's signature, to an exact version or (None) as any
    caller's.

    Raises `AiaasError`.
    """
    signature = endpoint.signature
    if version is not None:
        signature = endpoint._signature_of(version)
    if signature is None:
        raise InvalidInput(
            f"Endpoint {endpoint.name} answers nothing yet.", remedy="Publish a model to it."
        )
    found: Any
    if signature.generates:
        prompt = str(read(signature)[signature.inputs[0].name].flat[0])
        said = endpoint.generate(prompt, max_tokens=_SHOWN_TOKENS, version=version)
        found = {"completion": _string(said)}
    else:
        found = endpoint.predict(read(signature), version=version)
    outputs = found if isinstance(found, dict) else {signature.outputs[0].name: found}
    answered = endpoint.last_version
    labels = endpoint._signature_of(answered).labels if answered is not None else None
    return Answer(outputs, labels, answered)


def _string(text: str) -> NDArray[np.object_]:
    import numpy as np

    return np.array([text], np.object_)


def _from_text(text: str, spec: TensorSpec) -> dict[str, NDArray[np.generic]]:
    import numpy as np

    if not text.strip():
        raise InvalidInput("There is no text to send.", remedy="Type one.")
    array: NDArray[np.generic] = np.array([text], dtype=object)
    return {spec.name: array.reshape(1, *(1 for _ in spec.shape))}


def _is_string(spec: TensorSpec) -> bool:
    return str(spec.dtype) == _STRING


def _from_json(text: str, signature: Signature) -> dict[str, NDArray[np.generic]]:
    try:
        # A large integer would be an endless one, and NaN is no JSON.
        given = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = getattr(error, "pos", None)
        at = f" at character {where + 1}" if where is not None else ""
        raise InvalidInput(f"This is not JSON{at}.", remedy=_how(signature)) from None
    names = [spec.name for spec in signature.inputs]
    if isinstance(given, dict):
        if set(given) != set(names):
            raise InvalidInput(
                f"The model's inputs are {', '.join(names)}; given are {', '.join(given)}.",
                remedy=_how(signature),
            )
        values = given
    elif len(names) == 1:
        values = {names[0]: given}
    else:
        raise InvalidInput(f"The model has the inputs {', '.join(names)}.", remedy=_how(signature))
    return {spec.name: _array(values[spec.name], spec, signature) for spec in signature.inputs}


def _array(value: Any, spec: TensorSpec, signature: Signature) -> NDArray[np.generic]:
    import numpy as np

    try:
        array: NDArray[np.generic] = np.asarray(value)
    except (ValueError, OverflowError):
        array = np.empty(0, object)
    kinds, made_of = ("U", "texts") if _is_string(spec) else ("biuf", "numbers")
    if array.dtype.kind not in kinds:
        raise InvalidInput(
            f"Input {spec.name} is not made of {made_of} in rows of one length.",
            remedy=_how(signature),
        )
    if array.ndim == len(spec.shape):
        # One row, as a person thinks of it.
        array = array[None]
    return _checked(array, spec)


def _numbers(line: str, spec: TensorSpec, signature: Signature) -> list[float]:
    row = []
    for part in re.split(r"[\s,;]+", line.strip(" ,;\t")):
        try:
            row.append(int(part) if re.fullmatch(r"[+-]?\d{1,18}", part) else float(part))
        except ValueError:
            raise InvalidInput(f"{part[:40]!r} is not a number.", remedy=_how(signature)) from None
    wanted = _count(spec)
    if wanted is not None and len(row) != wanted:
        raise InvalidInput(
            f"A row has {wanted} numbers, and this one {len(row)}.", remedy=_how(signature)
        )
    return row


def _stacked(
    rows: list[list[float]], spec: TensorSpec, signature: Signature
) -> NDArray[np.generic]:
    import numpy as np

    if len({len(row) for row in rows}) > 1:
        raise InvalidInput("The rows have different lengths.", remedy=_how(signature))
    array = np.asarray(rows)
    wanted = _count(spec)
    if wanted is not None:
        array = array.reshape(len(rows), *(size or 1 for size in spec.shape))
    elif len(spec.shape) != 1:
        raise InvalidInput(
            f"Input {spec.name} has free dimensions.", remedy="Give JSON: [[[…], …]]."
        )
    return _checked(array, spec)


def _checked(array: NDArray[np.generic], spec: TensorSpec) -> NDArray[np.generic]:
    import numpy as np

    if len(array) > MOST_ROWS:
        raise InvalidInput(
            f"These are {len(array)} rows.", remedy=f"Send at most {MOST_ROWS}, or use predict()."
        )
    if _is_string(spec):
        return array.astype(object)
    wanted = np.dtype(spec.dtype)
    # 1 for a bool, and 3.0 for a whole number, are what a person may well mean.
    if wanted.kind != array.dtype.kind and (array == array.astype(wanted)).all():
        return array.astype(wanted)
    return array


def _count(spec: TensorSpec) -> int | None:
    """Numbers in a row; None where the model leaves it open."""
    if any(size is None for size in spec.shape):
        return None
    return math.prod(size or 1 for size in spec.shape)


def _how(signature: Signature) -> str:
    if len(signature.inputs) > 1:
        names = ", ".join(f'"{spec.name}": [[…]]' for spec in signature.inputs)
        return f"Give JSON: {{{names}}}."
    spec = signature.inputs[0]
    if signature.takes_image:
        return "Give the file of a picture: PNG, JPEG or WebP."
    if signature.generates:
        return "Type a prompt. The model goes on with it."
    if takes_text(signature):
        return "Type a text. All of it is one row, however many lines it has."
    if _is_string(spec):
        return f"Give JSON: {example_rows(signature)}."
    shape = " by ".join("any" if size is None else str(size) for size in spec.shape)
    count = _count(spec)
    if count is not None:
        line = f"a line of {count} numbers" if count != 1 else "a line with a number"
        return f"Give {line} for each row, or JSON of rows of {shape or 'single'} {spec.dtype}."
    return f"Give a line of numbers for each row, or JSON of rows of {shape} {spec.dtype}."


def _filled(shape: list[int], value: Any) -> Any:
    return [_filled(shape[1:], value) for _ in range(shape[0])] if shape else value


def _values(values: Any) -> str:
    # Of a row that is a single string there is no array left.
    flat = values.reshape(-1).tolist() if hasattr(values, "reshape") else [values]
    shown = ", ".join(map(_value, flat[:_SHOWN_VALUES]))
    return f"{shown}, … ({len(flat)})" if len(flat) > _SHOWN_VALUES else shown


def _value(value: Any) -> str:
    if isinstance(value, float):
        return display.number(value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = display.clean(text)
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]} …"


def _no_constant(name: str) -> float:
    raise ValueError(name)
