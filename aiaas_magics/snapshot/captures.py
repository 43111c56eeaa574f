"""What code takes from the notebook: found by name, with its size and the edit that fixes it.

A function takes along what it uses; a cell takes nothing. So of a function each variable is tried
on its own, and of a cell the names are found that it does not define.
"""

from __future__ import annotations

import builtins
import dis
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
from aiaas_magics.snapshot.portability import (
    CACHED,
    TABLES,
    culprit,
    impossible,
    make_inside,
    pickled_size,
    shallow_size,
)

LARGE = 1 << 20
"""Bytes from which a captured object is better a dataset."""
_BUILTINS = {*vars(builtins), "__file__", "__name__", "__doc__", "__spec__", "__annotations__"}
_BUILTINS -= {"display", "get_ipython"}
_SECRET = re.compile(r"(?i)(^|_)(password|passwd|secret|api_?key|access_?key|token|credentials?)$")

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
    own = [one for one in followed(function) if isinstance(one, FunctionType)]
    notebook = own[0].__globals__ if own else {}
    found = [
        _examine(name, value, notebook) for name, value, followed in _walk(function) if not followed
    ]
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
    measured = shallow_size(value)
    described = kind if measured is None else f"{kind}, {show_size(measured)}"
    problem = f"{name} is a variable of the notebook ({described}); the run does not have it."
    if isinstance(value, ModuleType):
        alias = "" if value.__name__ == name else f" as {name}"
        problem = f"{name} is imported in another cell; the run does not have it."
        remedy = f"Add 'import {value.__name__}{alias}' to the cell."
    elif kind in TABLES:
        remedy = _as_dataset(name, kind, name)
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
            value = _unwrapped(value)
            by_reference = _importable(value)
            if isinstance(value, FunctionType | type) and by_reference in ("", home):
                waiting.append((f"{value.__name__}.", value))
            elif not isinstance(value, ModuleType | BuiltinFunctionType) and not by_reference:
                yield f"{prefix}{name}", value, False


def _travels(module: str) -> bool:
    return module == "__main__" or module not in sys.modules or is_local(sys.modules[module])


def _variables(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, type):
        for method in methods(thing):
            yield from _variables(method)
        for name, value in vars(thing).items():
            # Python's own notes of a class, such as `_abc_impl` and an Enum's `_member_map_`, and
            # its slots: pickling makes them anew.
            noted = name.startswith(("__", "_abc_")) or (name[0] == name[-1] == "_")
            if not (noted or hasattr(type(value), "__get__")):
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


def methods(thing: type) -> Iterator[FunctionType]:
    """The functions that a class defines, also as properties, class and static methods."""
    for value in vars(thing).values():
        parts = (value, *(getattr(value, part, None) for part in ("fget", "fset", "fdel")))
        for one in map(_unwrapped, parts):
            if isinstance(one, FunctionType):
                yield one


def _unwrapped(value: Any) -> Any:
    """What a static or class method, or a function with a cache, was made of."""
    if isinstance(value, staticmethod | classmethod | CACHED):
        return _unwrapped(value.__wrapped__)
    return value


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


def _examine(name: str, value: Any, notebook: Mapping[str, Any]) -> Capture:
    kind = type(value).__name__
    if never := impossible(name, value):
        return Capture(name, kind, None, "error", *never)
    measured = shallow_size(value)
    if measured is None or measured <= LARGE:
        # Of the small ones each is tried: a table holds nothing that cannot travel.
        try:
            measured = pickled_size(value)
        except Exception as error:  # pickling calls any object's own code
            path, part = culprit(name, value)
            why = impossible(path, part) or (
                f"{path} ({type(part).__name__}) cannot be sent: {_sentence(error)}",
                make_inside(path),
            )
            return Capture(name, kind, None, "error", *why)
    if measured > LARGE:
        problem = f"{name} ({kind}, {show_size(measured)}) travels with the function each time."
        remedy = make_inside(name)
        if kind in TABLES:
            remedy = _as_dataset(name, kind, _name_of(value, name, notebook))
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


def _name_of(value: Any, name: str, notebook: Mapping[str, Any]) -> str:
    """What the notebook calls an object that the code calls `name`; empty if it does not."""
    # A notebook keeps its outputs under names with an underscore, too.
    names = [one for one, held in list(notebook.items()) if held is value and one[:1] != "_"]
    return name if name in names else next(iter(names), "")


def _as_dataset(name: str, kind: str, variable: str) -> str:
    """`variable` is the notebook's name of it; empty where only the code has one."""
    where = "" if variable else " where it is made"
    variable = variable or name.rpartition(".")[2]
    simple = re.sub(r"\W+", "-", variable).strip("-_").lower() or "data"
    variable = variable if variable.isidentifier() else "data"
    frame = (
        variable if kind in ("DataFrame", "Table") else f"pd.DataFrame({{'x': list({variable})}})"
    )
    return (
        f"Store it as a dataset{where}: aiaas.datasets.put({simple!r}, {frame}); then give "
        f"'--dataset {simple}' (dataset={simple!r}), and read it with "
        f"ctx.dataset({simple!r}).to_pandas()."
    )


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200] if text.endswith(".") else f"{text[:200]}."
