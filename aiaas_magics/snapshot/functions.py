"""A function by value: checked, pickled, and the local modules that it needs."""

from __future__ import annotations

import inspect
import pickletools
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.snapshot import captures, imports
from aiaas_magics.snapshot.captures import Capture


def check(function: Callable[..., object]) -> None:
    """Raise `InvalidInput` unless it can be called with one argument."""
    if not callable(function):
        raise InvalidInput(
            f"aiaas.train takes a function, not a {type(function).__name__}.",
            remedy="Call it as aiaas.train(fn, name=…), with fn(ctx).",
        )
    if inspect.iscoroutinefunction(function):
        raise InvalidInput(
            "The training function is an async function.", remedy="Define it without async."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidInput(
            "The training function has a yield: called, it would do nothing.",
            remedy="Write ctx.report(…) where it yields.",
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


def pickled(function: Callable[..., object], captured: Sequence[Capture]) -> bytes:
    """The function's bytes. Raises `InvalidInput` with the name of what cannot travel."""
    # Here, not above: it brings cloudpickle along.
    from aiaas_magics.snapshot import pickler

    captures.refuse(list(captured))
    with _by_value(inspect.getmodule(function)):
        try:
            content = pickler.dumps(function)
        except Exception as error:  # pickling calls any object's own code
            raise InvalidInput(
                f"The training function holds something that cannot be sent: {error}",
                remedy="Make such objects inside the function, or pass data as dataset=….",
            ) from error
    return content


def source(function: Callable[..., object]) -> str:
    """The function as typed; empty where Python does not know (it was typed at a prompt)."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


def modules_of(function: Callable[..., object], content: bytes) -> set[str]:
    """Top-level names of modules that the function imports, or that its pickle refers to."""
    found = {
        name.partition(".")[0]
        for opcode, name, _ in pickletools.genops(content)
        if isinstance(name, str) and opcode.name.endswith("UNICODE") and name in sys.modules
    }
    for code in _codes(function):
        found |= imports.of_code(code)
    # A kernel has modules of its own, which are not files of the user's.
    return {name for name in found if not name.startswith("ipykernel") and name != "__main__"}


def _codes(function: Callable[..., object]) -> Iterator[CodeType]:
    """The code of a function, and of functions and classes of the notebook that it uses."""
    yield from (code for thing in captures.followed(function) for code in _codes_of(thing))


def _codes_of(thing: object) -> Iterator[CodeType]:
    if isinstance(thing, FunctionType):
        yield thing.__code__
    elif isinstance(thing, type):
        yield from (method.__code__ for method in captures.methods(thing))


@contextmanager
def _by_value(module: ModuleType | None) -> Iterator[None]:
    """Pickle by value what the function's own module defines, as it is in this kernel now."""
    import cloudpickle

    if module is None or not imports.is_local(module):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
