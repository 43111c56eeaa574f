"""Whether an object of the notebook can travel to a run, and how large it is."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from typing import Any

from aiaas_magics.display import size as show_size

TABLES = {"DataFrame", "Series", "ndarray", "Tensor", "Table", "LazyFrame", "RecordBatch"}
"""Kinds of tables and arrays, by their names: none of their libraries is imported for it."""
CACHED = functools._lru_cache_wrapper
"""What `functools.cache` and `lru_cache` make of a function."""
_MOST = 1 << 30
_DEPTH = 3


def impossible(name: str, value: Any) -> tuple[str, str] | None:
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
            return f"{shown} is {says}; it cannot be sent.", make_inside(name)
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


def culprit(path: str, value: Any, depth: int = _DEPTH) -> tuple[str, Any]:
    """The innermost part of a value that cannot be pickled, as an expression."""
    if depth:
        for label, part in _parts(value):
            try:
                pickled_size(part)
            except Exception:  # pickling calls any object's own code
                return culprit(f"{path}{label}", part, depth - 1)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif hasattr(value, "__dict__"):
        yield from ((f".{name}", part) for name, part in vars(value).items())


def shallow_size(value: Any) -> int | None:
    """Bytes of arrays and tables without copying them; None for other things."""
    kind = type(value).__name__
    try:
        if kind in ("DataFrame", "Series") and hasattr(value, "memory_usage"):
            usage = value.memory_usage(index=True)
            return int(usage.sum() if hasattr(usage, "sum") else usage)
        if kind == "DataFrame" and hasattr(value, "estimated_size"):
            return int(value.estimated_size())
        if hasattr(value, "nbytes") and kind in TABLES:
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


def pickled_size(value: Any) -> int:
    # Here, not above: it costs time that a cell need not wait for.
    from aiaas_magics.snapshot import pickler

    counter = _Counter()
    pickler.dump(value, counter)
    return counter.count


def make_inside(name: str) -> str:
    return f"Make {name} inside the training function."
