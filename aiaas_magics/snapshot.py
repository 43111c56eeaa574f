"""Snapshots: the code that a run executes, as a zip with the same bytes for the same code.

    cell.py or function.pkl    what defines `train(ctx)`
    manifest.json              {"kind": "cell" | "function", "python", "client"}

The control plane stores a snapshot and never opens a pickle in it; the run does.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import sys
import sysconfig
import textwrap
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# The oldest moment that a zip can tell: real times would change the bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Code:
    """A snapshot before it is uploaded."""

    content: bytes
    """The zip."""
    entry: str
    source: str
    """As typed, for lineage."""


def of_cell(cell: str, line: str = "") -> Code:
    """Snapshot of a cell that defines `train(ctx)`. Raises `InvalidInput` if it does not.

    `line` is what the magic's own line said. It stays as a comment, so that the lines of the
    code have the numbers that they have in the notebook.
    """
    if line:
        cell = f"# %%aiaas {' '.join(line.splitlines())}\n{cell}"
    check_cell(cell)
    source = cell if cell.endswith("\n") else f"{cell}\n"
    return Code(_zip("cell", "cell.py", source.encode()), "cell.py", source)


def of_function(function: Callable[..., object]) -> Code:
    """Snapshot of a function by value: its globals and closure travel with it.

    Raises `InvalidInput` when it cannot be called as `train(ctx)` or holds what cannot travel.
    """
    _check_callable(function)
    return Code(
        _zip("function", "function.pkl", _pickle(function)), "function.pkl", _source(function)
    )


def check_cell(cell: str) -> None:
    """Raise `InvalidInput` unless the cell is Python that defines a function `train(ctx)`."""
    try:
        tree = ast.parse(cell)
    except SyntaxError as error:
        raise _syntax_error(cell, error) from None
    except ValueError as error:  # null bytes
        raise InvalidInput(
            f"The cell is not Python: {error}.", remedy="Remove the characters and run it again."
        ) from None
    definitions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "train"
    ]
    if not definitions:
        raise InvalidInput(
            "The cell does not define train(ctx).",
            remedy="Put the training code into 'def train(ctx):' at the top level of the cell.",
        )
    train = definitions[-1]
    if isinstance(train, ast.AsyncFunctionDef):
        raise InvalidInput(
            f"train is an async function (line {train.lineno}).",
            remedy="Write 'def train(ctx):' without async.",
        )
    arguments = train.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    needs_keywords = any(default is None for default in arguments.kw_defaults)
    if required > 1 or needs_keywords or not (positional or arguments.vararg):
        raise InvalidInput(
            f"train must take one argument, the context (line {train.lineno}).",
            remedy="Write 'def train(ctx):'; parameters of the run are in ctx.params.",
        )


def _syntax_error(cell: str, error: SyntaxError) -> InvalidInput:
    line = error.lineno or 0
    lines = cell.splitlines()
    text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    if text.startswith(("%", "!")):
        return InvalidInput(
            f"Line {line} of the cell is a notebook command, {text[:80]!r}.",
            remedy="The run executes plain Python: move the command to a cell of its own.",
        )
    shown = f": {text[:80]!r}" if text else ""
    return InvalidInput(
        f"The cell does not compile: {error.msg} at line {line}{shown}.",
        remedy="Correct the line and run the cell again; nothing was sent.",
    )


def _check_callable(function: Callable[..., object]) -> None:
    if not callable(function):
        raise InvalidInput(
            f"aiaas.train takes a function, not a {type(function).__name__}.",
            remedy="Call it as aiaas.train(fn, name=…), with fn(ctx).",
        )
    if inspect.iscoroutinefunction(function):
        raise InvalidInput(
            "The training function is an async function.", remedy="Define it without async."
        )
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        raise InvalidInput(
            "The training function must take one argument, the context.",
            remedy="Define it as fn(ctx); parameters of the run are in ctx.params.",
        ) from None
    except ValueError:
        # A builtin may have no signature to look at; the call in the run will tell.
        return


def _pickle(function: Callable[..., object]) -> bytes:
    import cloudpickle

    with _by_value(inspect.getmodule(function)):
        try:
            content: bytes = cloudpickle.dumps(function)
        except Exception as error:  # pickling calls any object's own code
            raise InvalidInput(
                f"The training function holds something that cannot be sent: {error}",
                remedy="Make such objects inside the function, or pass data as dataset=….",
            ) from error
    return content


@contextmanager
def _by_value(module: ModuleType | None) -> Iterator[None]:
    """Pickle what a module beside the notebook defines by value: the run has no such file."""
    import cloudpickle

    if module is None or not _is_local(module):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_local(module: ModuleType) -> bool:
    path = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or path is None:
        return False
    installed = {
        sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    return not any(path.startswith(f"{directory}/") for directory in installed)


def _source(function: Callable[..., object]) -> str:
    """The function as typed; empty where Python does not know (it was typed at a prompt)."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


def _zip(kind: str, entry: str, content: bytes) -> bytes:
    manifest = {"kind": kind, "python": PYTHON, "client": __version__}
    files = {entry: content, "manifest.json": json.dumps(manifest, sort_keys=True).encode()}
    buffer = io.BytesIO()
    # Stored, not deflated: compressed bytes differ between releases of zlib.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()
