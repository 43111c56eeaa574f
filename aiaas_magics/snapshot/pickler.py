"""cloudpickle for two things of functools that it cannot send, or sends as a name that the run does
not have: functions with a cache, and cached properties."""

from __future__ import annotations

import functools
import io
import sys
from collections import ChainMap
from collections.abc import Callable
from typing import Any, ClassVar

import cloudpickle


def dump(value: Any, file: io.IOBase) -> None:
    _Pickler(file).dump(value)


def dumps(value: Any) -> bytes:
    file = io.BytesIO()
    dump(value, file)
    return file.getvalue()


def _reduce_cached(cached: Any) -> str | tuple[Any, ...]:
    """By value where its function is: of the notebook, or of a module that travels by value."""
    module = cached.__module__
    by_value = module == "__main__" or module in cloudpickle.list_registry_pickle_by_value()
    if not by_value and "<locals>" not in cached.__qualname__ and module in sys.modules:
        name: str = cached.__reduce__()
        return name
    return _cached, (cached.__wrapped__, *cached.cache_parameters().values())


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """The function with a cache of its own, which is empty."""
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_property(value: functools.cached_property[Any]) -> tuple[Any, ...]:
    # Python 3.11's holds a lock.
    state = {name: held for name, held in vars(value).items() if name != "lock"}
    return functools.cached_property, (value.func,), state


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not typed
    dispatch_table: ClassVar = ChainMap(
        {
            functools._lru_cache_wrapper: _reduce_cached,
            functools.cached_property: _reduce_property,
        },
        cloudpickle.Pickler.dispatch_table,
    )
