"""What code takes from the notebook: found by name, with its size and the edit that fixes it.

A function takes along what it uses; a cell takes nothing. So of a function each variable is tried
on its own, and of a cell the names are found that it does not define.
"""

from __future__ import annotations

import builtins
import dis
import io
import re
import symtable
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Literal

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.display import size as show_size
from aiaas_magics.snapshot.imports import is_local

LARGE = 1 << 20
"""Bytes from which a captured object is better a dataset."""
_MOST = 1 << 30
_DEPTH = 3
_BUILTINS = {*vars(builtins), "__file__", "__name__", "__doc__", "__spec__", "__annotations__"}
_BUILTINS -= {"display", "get_ipython"}
_SECRET = re.compile(r"(?i)(^|_)(password|passwd|secret|api_?key|access_?key|token|credentials?)$")
_TABLES = {"DataFrame", "Series", "ndarray", "Tensor", "Table", "LazyFrame", "RecordBatch"}

Severity = Literal["fine", "warning", "error"]


@dataclass(frozen=True)
class Capture:
    """A variable of the notebook that the code uses."""

    name: str
    type: str
    size: int | None
    """Bytes that travel; None if unknown."""
    severity: Severity = "fine"
    problem: str = ""
    """A sentence, if there is one."""
    remedy: str = ""
    """What to type instead."""


def of_function(function: Callable[..., object]) -> list[Capture]:
    """What travels with a function, largest first."""
    found = [_examine(name, value) for name, value, followed in _walk(function) if not followed]
    found += _undefined(function)
    return sorted(found, key=lambda one: (one.severity == "fine", -(one.size or 0), one.name))


def of_cell(source: str, namespace: Mapping[str, Any]) -> list[Capture]:
    """The names that a cell uses and does not define; the run would not find them."""
    free, complete = free_names(source)
    found = []
    for name in sorted(free):
        if name in namespace:
            found.append(_of_notebook(name, namespace[name]))
        elif complete:
            found.append(
                Capture(
                    name,
                    "",
                    None,
                    "error",
                    f"{name} is defined neither in the cell nor by Python.",
                    f"Define {name} in the cell, or import it there.",
                )
            )
    return found


def refuse(found: list[Capture]) -> None:
    """Raise `InvalidInput` for what cannot travel, each by its name."""
    errors = [one for one in found if one.severity == "error"]
    if not errors:
        return
    first, *others = errors
    more = f" Likewise: {', '.join(one.name for one in others)}." if others else ""
    raise InvalidInput(f"{first.problem}{more} Nothing was sent.", remedy=first.remedy)


def free_names(source: str) -> tuple[set[str], bool]:
    """Global names that a source reads and never binds; whether they are all that is known.

    They are not after `from … import *`.
    """
    top = symtable.symtable(source, "<cell>", "exec")
    bound: set[str] = set()
    read: set[str] = set()
    for table in _tables(top):
        for symbol in table.get_symbols():
            name = symbol.get_name()
            at_top = table is top
            binds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if binds and (at_top or symbol.is_declared_global()):
                bound.add(name)
            if symbol.is_referenced() and (at_top or symbol.is_global()):
                read.add(name)
    return read - bound - _BUILTINS, not re.search(r"(?m)^\s*from\s+\S+\s+import\s+\*", source)


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _of_notebook(name: str, value: Any) -> Capture:
    kind = type(value).__name__
    measured = _shallow_size(value)
    described = kind if measured is None else f"{kind}, {show_size(measured)}"
    problem = f"{name} is a variable of the notebook ({described}); the run does not have it."
    if isinstance(value, ModuleType):
        alias = "" if value.__name__ == name else f" as {name}"
        problem = f"{name} is imported in another cell; the run does not have it."
        remedy = f"Add 'import {value.__name__}{alias}' to the cell."
    elif kind in _TABLES:
        remedy = _as_dataset(name, kind)
    elif isinstance(value, bool | int | float | str):
        remedy = (
            f"Add '--param {name}={{{name}}}' to the %%aiaas train line, and write "
            f"ctx.params[{name!r}] in the cell."
        )
    elif name in ("display", "get_ipython"):
        problem, remedy = f"{name}() exists in notebooks only.", "Write print(…) in the cell."
    elif module := _importable(value):
        problem = f"{name} is imported in another cell; the run does not have it."
        alias = "" if value.__name__ == name else f" as {name}"
        remedy = f"Add 'from {module} import {value.__name__}{alias}' to the cell."
    else:
        remedy = (
            f"Define {name} in this cell, or submit a function, which takes along what it uses: "
            "aiaas.train(train, name=…)."
        )
    return Capture(name, kind, measured, "error", problem, remedy)


def _importable(value: Any) -> str:
    """The module that a function or class can be imported from; empty if there is none."""
    module = getattr(value, "__module__", None)
    if not isinstance(value, type | FunctionType) or module in (None, "__main__", "builtins"):
        return ""
    return module if isinstance(module, str) else ""


def followed(function: Callable[..., object]) -> Iterator[Any]:
    """A function, and the functions and classes of the notebook that it uses."""
    return (value for _, value, followed in _walk(function) if followed)


def _walk(function: Callable[..., object]) -> Iterator[tuple[str, Any, bool]]:
    """Name and value of all that travels; whether it is code that was looked into."""
    home = getattr(function, "__module__", None)
    if home is not None and not _travels(home):
        # Installed: the run has it, and it travels as a name.
        return
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", function)]
    while waiting:
        prefix, current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield prefix, current, True
        for name, value in _variables(current):
            by_reference = _importable(value)
            if isinstance(value, FunctionType | type) and by_reference in ("", home):
                waiting.append((f"{value.__name__}.", value))
            elif not isinstance(value, ModuleType | BuiltinFunctionType) and not by_reference:
                yield f"{prefix}{name}", value, False


def _travels(module: str) -> bool:
    return module == "__main__" or module not in sys.modules or is_local(sys.modules[module])


def _variables(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, type):
        for name, value in vars(thing).items():
            if isinstance(value, FunctionType):
                yield from _variables(value)
            elif not name.startswith("__"):
                yield name, value
        return
    inner = getattr(thing, "__wrapped__", None) or getattr(thing, "func", None)
    if inner is not None and not isinstance(thing, FunctionType):
        yield from _variables(inner)
        return
    if not isinstance(thing, FunctionType):
        # A bound method, or an object that can be called: it travels with the object.
        owner = getattr(thing, "__self__", thing)
        yield type(owner).__name__, owner
        return
    cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for number, value in enumerate(thing.__defaults__ or ()):
        yield f"default {number + 1}", value
    for name in sorted(_globals_of(thing.__code__)):
        if name in thing.__globals__:
            yield name, thing.__globals__[name]


def _undefined(function: Callable[..., object]) -> Iterator[Capture]:
    """Names that a function will look for in vain; only a warning, as it may never come there."""
    functions = [one for one in followed(function) if isinstance(one, FunctionType)]
    made = {name for one in functions for name in _globals_of(one.__code__, ("STORE_GLOBAL",))}
    for one in functions:
        used = _globals_of(one.__code__, ("LOAD_GLOBAL",))
        for name in sorted(used - made - _BUILTINS - one.__globals__.keys()):
            yield Capture(
                name,
                "",
                None,
                "warning",
                f"{one.__name__} uses {name}, which is defined neither in the notebook nor by "
                "Python.",
                f"Define or import {name} inside the function, or in a cell before.",
            )


def _globals_of(
    code: CodeType, operations: tuple[str, ...] = ("LOAD_GLOBAL", "LOAD_NAME")
) -> set[str]:
    found = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in operations
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _globals_of(constant, operations)
    return found


def _examine(name: str, value: Any) -> Capture:
    kind = type(value).__name__
    impossible = _impossible(name, value)
    if impossible:
        return Capture(name, kind, None, "error", *impossible)
    measured = _shallow_size(value)
    if measured is None or measured <= LARGE:
        # Of the small ones each is tried: a table holds nothing that cannot travel.
        try:
            measured = _pickled_size(value)
        except Exception as error:  # pickling calls any object's own code
            path, part = _culprit(name, value)
            why = _impossible(path, part) or (
                f"{path} ({type(part).__name__}) cannot be sent: {_sentence(error)}",
                _make_inside(path),
            )
            return Capture(name, kind, None, "error", *why)
    if measured > LARGE:
        problem = f"{name} ({kind}, {show_size(measured)}) travels with the function each time."
        remedy = _as_dataset(name, kind) if kind in _TABLES else _make_inside(name)
        return Capture(name, kind, measured, "warning", problem, remedy)
    if isinstance(value, str) and value and _SECRET.search(name):
        return Capture(
            name,
            kind,
            measured,
            "warning",
            f"{name} looks like a secret; it is stored with the run's code.",
            "Read it inside the function from where your platform keeps secrets.",
        )
    return Capture(name, kind, measured)


def _impossible(name: str, value: Any) -> tuple[str, str] | None:
    """Problem and remedy of kinds that cannot travel, or only seem to."""
    kinds = {f"{one.__module__}.{one.__qualname__}" for one in type(value).__mro__}
    shown = f"{name} ({type(value).__name__})"
    if isinstance(value, io.IOBase) and not isinstance(value, io.BytesIO | io.StringIO):
        path = getattr(value, "name", "PATH")
        return (
            f"{shown} is an open file; it cannot be sent.",
            f"Open it inside the function, 'with open({path!r}) as file:', or store the data with "
            "aiaas.datasets.upload('NAME', PATH) and give dataset='NAME'.",
        )
    if "builtins.generator" in kinds:
        return (
            f"{shown} is a generator; it cannot be sent.",
            f"Make it inside the function, or a list of it: {name} = list({name}).",
        )
    if getattr(getattr(value, "device", None), "type", "cpu") == "cuda" and "torch.Tensor" in kinds:
        return (
            f"{shown} lies on this machine's GPU; it cannot be sent.",
            f"Write {name} = {name}.cpu() before, and .to(ctx.device) inside the function.",
        )
    for part, says in _LIVE.items():
        if any(part in kind for kind in kinds):
            return f"{shown} is {says}; it cannot be sent.", _make_inside(name)
    return None


_LIVE = {
    "_thread.lock": "a lock",
    "_thread.RLock": "a lock",
    "threading.": "a thing of this process's threads",
    "socket.socket": "a connection",
    "sqlite3.Connection": "a connection to a database",
    "sqlite3.Cursor": "a connection to a database",
    "psycopg.": "a connection to a database",
    "sqlalchemy.engine.": "a connection to a database",
    "sqlalchemy.orm.session.": "a connection to a database",
    "httpx.Client": "a client with open connections",
    "httpx.AsyncClient": "a client with open connections",
    "requests.sessions.Session": "a client with open connections",
    "botocore.client.": "a client with open connections",
    "grpc.": "a client with open connections",
    "aiaas_magics.client.": "a client with open connections",
    "pyspark.sql.": "a thing of this notebook's Spark session",
    "IPython.": "a part of this notebook",
}


def _culprit(path: str, value: Any, depth: int = _DEPTH) -> tuple[str, Any]:
    """The innermost part of a value that cannot be pickled, as an expression."""
    if depth:
        for label, part in _parts(value):
            try:
                _pickled_size(part)
            except Exception:  # pickling calls any object's own code
                return _culprit(f"{path}{label}", part, depth - 1)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif hasattr(value, "__dict__"):
        yield from ((f".{name}", part) for name, part in vars(value).items())


def _shallow_size(value: Any) -> int | None:
    """Bytes of arrays and tables without copying them; None for other things."""
    kind = type(value).__name__
    try:
        if kind in ("DataFrame", "Series") and hasattr(value, "memory_usage"):
            usage = value.memory_usage(index=True)
            return int(usage.sum() if hasattr(usage, "sum") else usage)
        if kind == "DataFrame" and hasattr(value, "estimated_size"):
            return int(value.estimated_size())
        if hasattr(value, "nbytes") and kind in _TABLES:
            return int(value.nbytes)
    except Exception:  # any library's own code
        return None
    return len(value) if isinstance(value, bytes | bytearray | str) else None


class _Counter(io.RawIOBase):
    """Counts what is written, and ends what is far too much."""

    count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        self.count += length
        if self.count > _MOST:
            raise OverflowError(f"it is larger than {show_size(_MOST)}")
        return length


def _pickled_size(value: Any) -> int:
    import cloudpickle

    counter = _Counter()
    cloudpickle.dump(value, counter)
    return counter.count


def _as_dataset(name: str, kind: str) -> str:
    simple = re.sub(r"\W+", "-", name.rpartition(".")[2]).strip("-_").lower() or "data"
    variable = name.rpartition(".")[2]
    frame = (
        variable if kind in ("DataFrame", "Table") else f"pd.DataFrame({{'x': list({variable})}})"
    )
    return (
        f"Store it as a dataset: aiaas.datasets.put({simple!r}, {frame}); then give "
        f"'--dataset {simple}' (dataset={simple!r}), and read it with "
        f"ctx.dataset({simple!r}).to_pandas()."
    )


def _make_inside(name: str) -> str:
    return f"Make {name} inside the training function."


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200] if text.endswith(".") else f"{text[:200]}."
