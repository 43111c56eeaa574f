"""What a sweep tries, as it is typed.

    uniform:0:0.5      any number from 0 to 0.5
    log:1e-4:1e-1      the same, each order of magnitude equally often
    int:1:4            a whole number, 1 and 4 included
    choice:adam,sgd    one of these

Any other value stays the same in all trials.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

from pydantic import ValidationError

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.curves import falls
from aiaas_magics.errors import invalid
from aiaas_magics.request import check_param, plain

if TYPE_CHECKING:
    Kind = Literal["uniform", "log", "int", "choice"]

MOST_TRIALS = 1000
_KINDS = {
    "uniform": "uniform:LOW:HIGH",
    "log": "log:LOW:HIGH",
    "int": "int:LOW:HIGH",
    "choice": "choice:A,B,C",
}
_ELSEWHERE = {
    "loguniform": "log",
    "float": "uniform",
    "normal": "uniform",
    "integer": "int",
    "randint": "int",
    "categorical": "choice",
    "grid": "choice",
}
"""Names of other libraries → ours."""
_HEAD = re.compile(r"([A-Za-z_]+):(?!//)(.*)", re.DOTALL)
_RISES = re.compile(
    r"(?:^|_)(?:acc|accuracy|f1|auc|auroc|precision|recall|r2|score|iou|dice|bleu|rouge|map)(?:_|$)",
    re.IGNORECASE,
)


def split(
    values: Mapping[str, object], *, typed: bool = False
) -> tuple[dict[str, wire.ParamValue], dict[str, wire.Distribution]]:
    """What stays the same in all trials, and what is drawn. `typed` values are texts from a
    magic's line, where `5` is a number; from Python a list, tuple or range is a choice.

    Raises `InvalidInput` for a distribution that there is not, or that is empty.
    """
    fixed: dict[str, wire.ParamValue] = {}
    space: dict[str, wire.Distribution] = {}
    for name, given in values.items():
        value = plain(given)
        if isinstance(value, wire.Distribution):
            space[name] = value
        elif isinstance(value, list | tuple | range):
            space[name] = _choice(name, list(value))
        elif isinstance(value, str) and (drawn := _distribution(name, value)):
            space[name] = drawn
        else:
            kept = _read(value) if typed and isinstance(value, str) else value
            check_param(name, kept)
            fixed[name] = cast("wire.ParamValue", kept)
    return fixed, space


def spec(
    space: Mapping[str, wire.Distribution],
    *,
    metric: str,
    trials: int | None = None,
    mode: str | None = None,
    search: str = "random",
    scheduler: str = "none",
    concurrency: int = 2,
) -> wire.SweepSpec:
    """The sweep; raises `InvalidInput` for what cannot be meant."""
    if not space:
        raise InvalidInput(
            "The sweep varies nothing.",
            remedy="Give a parameter a distribution: --param lr=log:1e-4:1e-1.",
        )
    for name, value, known in (
        ("search", search, ("random", "grid", "bayesian")),
        ("scheduler", scheduler, ("none", "asha")),
        ("mode", mode, (None, "min", "max")),
    ):
        if value not in known:
            words = ", ".join(word for word in known if word)
            raise InvalidInput(f"{value!r} is no {name}.", remedy=f"Give one of: {words}.")
    trials = _grid(space, trials) if search == "grid" else trials
    if trials is None:
        raise InvalidInput(
            "The sweep does not say how many trials to run.", remedy="Add --trials 10."
        )
    if not 1 <= trials <= MOST_TRIALS:
        raise InvalidInput(
            f"A sweep of {trials:,} trials is not one that can be run.",
            remedy=f"Give 1 to {MOST_TRIALS:,}.",
        )
    try:
        return wire.SweepSpec.model_validate(
            {
                "space": dict(space),
                "trials": trials,
                "metric": metric,
                "mode": mode or _mode(metric),
                "search": search,
                "scheduler": scheduler,
                "concurrency": min(concurrency, trials),
            }
        )
    except ValidationError as error:
        raise invalid(error) from None


def points(distribution: wire.Distribution) -> int | None:
    """How many values a grid takes of it; None where there is no end of them."""
    if distribution.kind == "choice":
        return len(distribution.values)
    if distribution.kind == "int":
        return int(distribution.high or 0) - int(distribution.low or 0) + 1
    return None


def shown(distribution: wire.Distribution) -> str:
    """As it is typed."""
    if distribution.kind == "choice":
        return f"choice:{','.join(str(value) for value in distribution.values)}"
    return f"{distribution.kind}:{distribution.low:g}:{distribution.high:g}"


def _distribution(name: str, text: str) -> wire.Distribution | None:
    """None for a text that is a value like others."""
    match = _HEAD.fullmatch(text)
    if match is None:
        return None
    kind, rest = match[1], match[2]
    if kind not in _KINDS:
        _refuse_misspelt(name, kind, rest)
        return None
    if kind == "choice":
        values = [part.strip() for part in rest.split(",") if part.strip()]
        return _choice(name, [_read(value) for value in values])
    numbers = rest.split(":")
    try:
        low, high = map(float, numbers)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError
    except ValueError:
        raise InvalidInput(
            f"{name}={text!r} does not name two numbers.", remedy=f"Write {name}={_KINDS[kind]}."
        ) from None
    return _between(name, cast("Kind", kind), low, high)


def _between(name: str, kind: Kind, low: float, high: float) -> wire.Distribution:
    said = f"{name}={kind}:{low:g}:{high:g}"
    if low >= high:
        turned = kind if _can_be_drawn(kind, high, low) else "uniform"
        raise InvalidInput(
            f"{said} is empty: the first number has to be the smaller one.",
            remedy=f"Write {name}={turned}:{high:g}:{low:g}."
            if low > high
            else f"Write {name}={low:g} for a value that stays.",
        )
    if kind == "log" and not _can_be_drawn(kind, low, high):
        raise InvalidInput(
            f"{said} begins at {low:g}, which has no logarithm.",
            remedy=f"Begin above 0, or write {name}=uniform:{low:g}:{high:g}.",
        )
    if kind == "int" and not _can_be_drawn(kind, low, high):
        raise InvalidInput(
            f"{said} is not about whole numbers.", remedy=f"Write {name}=uniform:{low:g}:{high:g}."
        )
    return wire.Distribution(kind=kind, low=low, high=high)


def _can_be_drawn(kind: Kind, low: float, high: float) -> bool:
    if kind == "int":
        return low.is_integer() and high.is_integer()
    return kind != "log" or low > 0


def _choice(name: str, values: list[object]) -> wire.Distribution:
    if not values:
        raise InvalidInput(
            f"{name} has nothing to choose from.", remedy=f"Write {name}=choice:32,64."
        )
    values = [plain(value) for value in values]
    for value in values:
        check_param(name, value)
    try:
        return wire.Distribution.model_validate({"kind": "choice", "values": values})
    except ValidationError as error:
        raise invalid(error) from None


def _refuse_misspelt(name: str, kind: str, rest: str) -> None:
    """A text with a colon in it is mostly just a text: `cuda:0`, `s3:bucket`."""
    near = difflib.get_close_matches(kind.lower(), [*_KINDS, *_ELSEWHERE], n=1, cutoff=0.75)
    if not near:
        return
    ours = _ELSEWHERE.get(near[0], near[0])
    raise InvalidInput(
        f"{kind!r} is no distribution of a sweep; there are {', '.join(_KINDS)}.",
        remedy=f"Write {name}={_KINDS[ours]}, or quote it if it is a text: "
        f"'{name}=\"{kind}:{rest}\"'.",
    )


def _grid(space: Mapping[str, wire.Distribution], trials: int | None) -> int:
    total = 1
    for name, distribution in space.items():
        count = points(distribution)
        if count is None:
            raise InvalidInput(
                f"A grid cannot try all of {name}={shown(distribution)}.",
                remedy=f"Give its values, {name}=choice:A,B,C, or use --search random.",
            )
        total *= count
    if total > MOST_TRIALS:
        raise InvalidInput(
            f"The grid has {total:,} points, and a sweep at most {MOST_TRIALS:,} trials.",
            remedy="Give fewer values, or use --search random --trials 50.",
        )
    if trials is not None and trials != total:
        raise InvalidInput(
            f"The grid has {total} points, and --trials says {trials}.",
            remedy="Leave --trials out, or use --search random.",
        )
    return total


def _mode(metric: str) -> str:
    if falls(metric):
        return "min"
    if _RISES.search(metric):
        return "max"
    raise InvalidInput(
        f"Whether more or less {metric} is better is not said.",
        remedy="Add --mode max or --mode min.",
    )


def _read(text: str) -> object:
    """As `--param` of train does."""
    from aiaas_magics.commands.train import parameter

    return parameter(f"value={text}")[1]
