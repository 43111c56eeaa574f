"""The process of a query on Spark: `python -m aiaas_hub.adapters.spark_queries.worker`.

It speaks with the service as DuckDB's does. It runs nothing of the user's itself: Spark does, in a
JVM of its own or where the operator says.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aiaas_hub.adapters.duckdb_queries.statement import Refused, tables_of
from aiaas_hub.adapters.duckdb_queries.worker import (
    answer_requests,
    refuse_doubles,
    write_parquet,
)
from aiaas_hub.adapters.spark_queries.translation import spark_functions, translate
from aiaas_hub.loopback import ADDRESS, free_ports, is_free

_START_SECONDS = 120
_OUT_OF_MEMORY = ("OutOfMemory", "maxResultSize", "Java heap space", "UNABLE_TO_ACQUIRE_MEMORY")
_AS_TEXT = re.compile("interval$|^variant$|^void$")
"""Types that Parquet or pandas do not have."""


class Worker:
    def __init__(
        self,
        directory: Path,
        memory_bytes: int,
        threads: int,
        spill_bytes: int,
        java: str,
        spark: str,
        address: str,
    ) -> None:
        del spill_bytes  # the service looks at it
        self._directory = directory
        self._memory_bytes = memory_bytes
        self._threads = threads
        self._java = java
        self._spark = spark
        self._address = address
        self._views: dict[tuple[str | None, str], str] = {}
        self._names: dict[str, str] = {}

    def tables(self, sql: str) -> Any:
        found = tables_of(sql)
        # What Spark may not be asked is said now: a JVM takes many seconds to start.
        translate(sql, dict.fromkeys(found, "view"), spark_functions())
        return found

    def attach(self, tables: list[dict[str, Any]]) -> Any:
        """Make a view of each file, in a Spark that has no other."""
        paths = sorted({table["path"] for table in tables})
        for path in paths:
            _refuse_nested_times(pq.read_schema(path))
        address = self._address or self._serve(paths)
        # Its note on pandas 3 is about pandas, which is not used here.
        warnings.simplefilter("ignore", FutureWarning)
        from pyspark.sql import SparkSession

        self._session = SparkSession.builder.remote(address).create()
        # Where somebody else runs Spark it has to be told as well.
        self._session.conf.set("spark.sql.variable.substitute", "false")
        self._session.conf.set("spark.sql.session.timeZone", "UTC")
        # Spark refuses nanoseconds, which is what pandas has; as numbers it takes them.
        self._session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
        for number, table in enumerate(tables):
            view = f"dataset_{number}"
            # Not as a part of a statement: a path is no SQL.
            frame = self._session.read.parquet(table["path"])
            _with_times(frame, pq.read_schema(table["path"])).createOrReplaceTempView(view)
            self._views[(table["schema"], table["name"])] = view
            self._names[table["path"]] = table["name"]

    def _serve(self, paths: list[str]) -> str:
        token = secrets.token_urlsafe(32)
        port, *own_ports = free_ports(3)
        start = {
            "directory": str(self._directory),
            "files": paths,
            "java": self._java,
            "spark": self._spark,
            "ports": [port, *own_ports],
            "threads": self._threads,
            "memory_bytes": self._memory_bytes,
        }
        module = "aiaas_hub.adapters.spark_queries.server"
        server = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-I", "-m", module, str(os.getpid()), json.dumps(start)],
            stdin=subprocess.DEVNULL,
            # Other users of this machine reach the port, and not what is behind it.
            env={
                **os.environ,
                "SPARK_CONNECT_AUTHENTICATE_TOKEN": token,
                # Else it gives itself the address of the machine's name, which it may not reach.
                "SPARK_LOCAL_IP": ADDRESS,
                "SPARK_LOCAL_HOSTNAME": ADDRESS,
            },
        )
        threading.Thread(target=_end_with, args=(server,), daemon=True).start()
        until = time.monotonic() + _START_SECONDS
        while is_free(port):
            if time.monotonic() > until:
                raise Refused("Spark did not start in time")
            time.sleep(0.05)
        return f"sc://localhost:{port}/;token={token}"

    def write(
        self, sql: str, target: str, rows: int | None, size: int, memory: int, like: str | None
    ) -> Any:
        """Write the result as Parquet, and stop at the first limit that it reaches."""
        if like is not None:
            raise Refused("Spark keeps no other dataset's types.")
        frame = self._frame(sql)
        if rows is not None:
            # One more than may be answered tells whether there are more.
            frame = frame.limit(rows + 1)
        schema, batches = _stream(frame)
        return write_parquet(schema, batches, target, rows, size, memory)

    def _frame(self, sql: str) -> Any:
        frame = self._session.sql(translate(sql, self._views, spark_functions()))
        names = frame.schema.names
        refuse_doubles(names)
        kinds = [field.dataType.typeName() for field in frame.schema.fields]
        if any(_AS_TEXT.search(kind) for kind in kinds):
            columns = [frame[_quoted(name)] for name in names]
            return frame.select(
                *(
                    column.cast("string").alias(name) if _AS_TEXT.search(kind) else column
                    for column, name, kind in zip(columns, names, kinds, strict=True)
                )
            )
        return frame

    def explain(self, error: Exception) -> dict[str, str]:
        """The answer to a request that failed."""
        text = str(error)
        if isinstance(error, Refused):
            return {"refused": text}
        if any(sign in text for sign in _OUT_OF_MEMORY) or isinstance(error, pa.ArrowMemoryError):
            return {"exceeded": "memory"}
        for path, name in self._names.items():
            text = text.replace(path, name)
        for (owner, name), view in self._views.items():
            text = text.replace(view, name if owner is None else f"{owner}.{name}")
        # Behind it is a plan, or where in Spark's own code it was.
        text = text.split(";\n")[0].split("\n\nJVM stacktrace")[0].split("\n\tat ")[0]
        return {"refused": text.replace(str(self._directory), "…")}


def _refuse_nested_times(schema: pa.Schema) -> None:
    """Before a JVM is started, which takes many seconds."""
    for field in schema:
        if field.type.num_fields and "[ns" in str(field.type):
            raise Refused(f"Spark does not read the nanoseconds inside of {field.name}.")


def _with_times(frame: Any, schema: pa.Schema) -> Any:
    """The frame with times in microseconds where the file has nanoseconds, which are cut off as
    DuckDB does: towards the past."""
    from pyspark.sql.functions import expr

    for field in schema:
        name = _quoted(field.name)
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = "timestamp_ntz" if field.type.tz is None else "timestamp"
            micros = f"({name} - pmod({name}, 1000L)) div 1000L"
            frame = frame.withColumn(
                field.name, expr(f"CAST(timestamp_micros({micros}) AS {kind})")
            )
    return frame


def _stream(frame: Any) -> tuple[pa.Schema, Iterator[pa.Table]]:
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = to_arrow_schema(frame.schema, timezone="UTC")
    # What is public, `toArrow`, holds all of the result in memory.
    client = frame._session.client
    plan = frame._plan
    parts = client.to_table_as_iterator(plan.to_proto(client), plan.observations)
    return schema, (part for part in parts if isinstance(part, pa.Table))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _end_with(server: subprocess.Popen[bytes]) -> None:
    """Without its Spark the query has no answer: the service sees that it ended."""
    code = server.wait()
    print(f"Spark ended with {code}.", file=sys.stderr, flush=True)  # noqa: T201 - the service logs it
    os._exit(1)


def main() -> None:
    from pyspark.errors import PySparkException

    answer_requests(Worker, (PySparkException, pa.ArrowException, OSError, ValueError))


if __name__ == "__main__":
    main()
