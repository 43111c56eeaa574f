"""What a verb of `%aiaas` is made of.

Verbs are declared when the extension loads and do their imports when they run: nothing here or
at the head of a command's module may cost time.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

Kind = Literal[
    "dataset", "run", "model", "endpoint", "variable", "verb", "recipe", "profile", "path", "column"
]
"""What a Tab completes an argument with."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Command:
    """A verb: its module's name says which."""

    verb: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Any, Call], object]
    """Takes the parsed arguments; what it returns is the magic's value."""
    cell: bool = False
    """Whether it needs a cell: `%%aiaas VERB`."""
    arguments: bool = False
    """Whether words after `--` are for the code, as `args.arguments`."""
    examples: tuple[str, ...] = ()
    """Cells to type, for its help."""


@dataclass(frozen=True)
class Call:
    """Where a verb was typed."""

    shell: InteractiveShell
    cell: str | None = None
    line: str = ""
    """As typed, after `%aiaas`."""

    def value_of(self, expression: str) -> Any:
        """A variable of the notebook, or an expression of them. Raises `UsageError`."""
        try:
            return eval(expression, self.shell.user_ns)  # noqa: S307  # the user's own, as in a cell
        except NameError as error:
            raise UsageError(
                f"There is no variable {error.name or expression!r} in this notebook. "
                "Run the cell that makes it first."
            ) from None
        except Exception as error:
            raise UsageError(
                f"{expression!r} cannot be evaluated: {type(error).__name__}: {error}. "
                "Give a variable of this notebook."
            ) from None

    def bind(self, name: str, value: object) -> None:
        """Make a variable of the notebook."""
        self.shell.push({name: value})


def completed(action: argparse.Action, kind: Kind) -> None:
    """Say what a Tab completes this argument with."""
    action.complete = kind  # type: ignore[attr-defined]  # argparse lets actions carry more


def add_scheduling(parser: argparse.ArgumentParser, retries: str) -> None:
    """Options of everything that waits in the queue. `retries`: what is tried again, and when."""
    parser.add_argument("--retries", type=int, default=0, metavar="N", help=retries)
    parser.add_argument(
        "--priority",
        choices=["low", "normal", "high"],
        default="normal",
        help="low, normal or high, among your own runs",
    )
    parser.add_argument(
        "--time-limit", metavar="T", help="end it after so long: seconds, or such as 30m or 2h"
    )


def variable(text: str) -> str:
    """Type of an argument that names a variable to make."""
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not a variable's name")
    return text


def comma_list(text: str) -> list[str]:
    """Type of an argument such as `a,b`."""
    return [part.strip() for part in text.split(",") if part.strip()]


def positive(text: str) -> int:
    """Type of an argument that counts."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def count(text: str) -> int:
    """Type of an argument that counts from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return int(text)


def percent(text: str) -> int:
    """Type of an argument that is a share."""
    if not text.removesuffix("%").isdecimal() or int(text.removesuffix("%")) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return int(text.removesuffix("%"))


def duration(text: str) -> float:
    """Type of an argument that is a time, in seconds: 90, 90s, 30m, 8h or 7d."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 30m, 8h or 7d")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def rank(text: str) -> int:
    """Type of an argument that names a worker."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a worker's number, counted from 0")
    return int(text)
