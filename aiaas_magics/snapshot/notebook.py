"""A whole notebook as code: its code cells in order, without what only a notebook can run."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

from aiaas_hub.schemas.errors import InvalidInput

SKIP_TAG = "skip-run"
"""Cells with this tag stay out of runs."""

_COMMAND = re.compile(r"^(\s*)([%!?].*|[^#]*[^\s#?]\?{1,2}\s*)$")
_PYTHON_MAGICS = {"time", "timeit", "capture", "prun"}


@dataclass(frozen=True)
class Cell:
    number: int
    """Among all cells, from 1, as a reader counts."""
    source: str
    skipped: tuple[str, ...] = ()
    """Lines that only a notebook can run."""


def read(path: Path) -> list[Cell]:
    """The code cells. Raises `InvalidInput` for what is no notebook, or does not compile."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = content["cells"]
        sources = [
            (number, "".join(cell["source"]), cell.get("metadata", {}).get("tags", []))
            for number, cell in enumerate(cells, 1)
            if cell["cell_type"] == "code"
        ]
    except OSError as error:
        raise InvalidInput(
            f"The notebook {path} cannot be read: {error.strerror}.", remedy="Check the path."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(
            f"{path.name} is not a notebook of the present format.",
            remedy="Open it in JupyterLab and save it.",
        ) from None
    found = [_plain(path, n, source) for n, source, tags in sources if SKIP_TAG not in tags]
    return [cell for cell in found if cell.source.strip() or cell.skipped]


def _plain(path: Path, number: int, source: str) -> Cell:
    first, _, rest = source.partition("\n")
    magic = first.strip()
    if magic.startswith("%%"):
        words = magic[2:].split()
        if words[:2] == ["aiaas", "train"] or (words[:1] and words[0] in _PYTHON_MAGICS):
            # The lines keep their numbers.
            return _plain(path, number, f"# {magic}\n{rest}")
        return Cell(number, "", (magic,))
    lines = source.split("\n")
    skipped: list[str] = []
    while True:
        try:
            ast.parse("\n".join(lines))
            return Cell(number, "\n".join(lines), tuple(skipped))
        except SyntaxError as error:
            # Only where Python stumbles: the same text may stand in a string.
            at = (error.lineno or 1) - 1
            command = _COMMAND.match(lines[at]) if at < len(lines) else None
            if command is None:
                raise _refusal(path, number, error) from None
            skipped.append(lines[at].strip())
            lines[at] = f"{command[1]}pass  # {lines[at].strip()}"
        except ValueError as error:  # null bytes
            raise InvalidInput(
                f"Cell {number} of {path.name} is not Python: {error}.", remedy="Clear the cell."
            ) from None


def _refusal(path: Path, number: int, error: SyntaxError) -> InvalidInput:
    return InvalidInput(
        f"Cell {number} of {path.name} does not compile: {error.msg} at line {error.lineno}: "
        f"{(error.text or '').strip()[:80]!r}.",
        remedy=f"Correct it, or give the cell the tag '{SKIP_TAG}'; nothing was sent.",
    )
