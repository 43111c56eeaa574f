"""`{expression}` in a magic's line, filled in from the notebook."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.error import UsageError

Namespace = Mapping[str, Any]

# Private-use characters stand for the values while the line is split into words, so that a
# value with a blank or a quote in it stays one word.
_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000(\\d+)\ue001")


def interpolate(line: str, namespace: Namespace, split: Callable[[str], list[str]]) -> list[str]:
    """The words that `split` makes of the line, with expressions evaluated in the notebook.

    Unknown names, and braces that hold no expression, are left as typed; `{{` is a brace. Raises
    `UsageError` for an expression that fails.
    """
    values: list[str] = []

    def keep(value: str) -> str:
        values.append(value)
        return _MARK.format(len(values) - 1)

    marked, position = [], 0
    while position < len(line):
        if line.startswith(("{{", "}}"), position):
            marked.append(keep(line[position]))
            position += 2
            continue
        end = _closing(line, position) if line[position] == "{" else None
        if end is None:
            marked.append(line[position])
            position += 1
            continue
        value = _evaluate(line[position + 1 : end].strip(), namespace)
        marked.append(line[position : end + 1] if value is None else keep(value))
        position = end + 1
    words = split("".join(marked))
    return [_MARKED.sub(lambda match: values[int(match[1])], word) for word in words]


def _closing(line: str, start: int) -> int | None:
    depth = 0
    for position in range(start, len(line)):
        if line[position] == "{":
            depth += 1
        elif line[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    return None


def _evaluate(expression: str, namespace: Namespace) -> str | None:
    """None: no expression, or of names that the notebook does not have."""
    try:
        code = compile(ast.parse(expression, mode="eval"), "<%aiaas>", "eval")
    except (SyntaxError, ValueError):
        return None
    try:
        return str(eval(code, dict(namespace)))  # noqa: S307  # the user's own, as in a cell
    except NameError:
        return None
    except Exception as error:
        raise UsageError(
            f"{{{expression}}} cannot be evaluated: {type(error).__name__}: {error}. "
            "Correct the expression, or double the braces."
        ) from None
