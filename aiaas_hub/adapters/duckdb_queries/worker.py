"""The process of a query: `python -m aiaas_hub.adapters.duckdb_queries.worker`.

It reads requests from its input, a line of JSON each, and answers each with one. It knows no
token and no address, and after `attach` it can read the attached files only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from aiaas_hub.adapters.cells import rows_of
from aiaas_hub.adapters.duckdb_queries import confinement
from aiaas_hub.adapters.duckdb_queries.statement import Refused, canonical, tables_of
from aiaas_hub.adapters.formats import convert

_BATCH_ROWS = 65_536

# Types that Parquet or pandas do not have, and what is handed over instead.
_CASTS = {"HUGEINT": "BIGINT", "UHUGEINT": "UBIGINT", "INTERVAL": "VARCHAR", "BIT": "VARCHAR",
          "UUID": "VARCHAR", "TIME WITH TIME ZONE": "VARCHAR", "VARIANT": "VARCHAR",
          "JSON": "VARCHAR", "BIGNUM": "VARCHAR"}  # fmt: skip


def write_parquet(
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch | pa.Table],
    target: str,
    rows: int | None,
    size: int,
    memory: int,
) -> dict[str, Any]:
    """Write batches to a file until the first limit: rows, bytes of file, bytes in memory."""
    written = taken = 0
    cut = ""
    with pa.OSFile(target, "wb") as sink, pq.ParquetWriter(sink, schema) as writer:
        for batch in batches:
            if rows is not None and written + batch.num_rows > rows:
                batch, cut = batch.slice(0, rows - written), "rows"
            writer.write(batch.cast(schema))
            written += batch.num_rows
            taken += batch.nbytes
            if sink.tell() > size or taken > memory:
                cut = "size"
            if cut:
                break
    return {"rows": written, "cut": cut}


class Worker:
    def __init__(self, directory: Path, memory_bytes: int, threads: int, spill_bytes: int) -> None:
        self._directory = directory
        self._settings = {
            "memory_limit": f"'{memory_bytes}B'",
            "threads": str(threads),
            "temp_directory": quoted(str(directory / "spill")),
            "max_temp_directory_size": f"'{spill_bytes}B'",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            # Python's variables are no tables.
            "python_enable_replacements": "false",
            "TimeZone": "'UTC'",
        }
        self._names: dict[str, str] = {}
        self._reading = False

    def tables(self, sql: str) -> Any:
        return tables_of(sql)

    def attach(self, tables: list[dict[str, Any]]) -> Any:
        """Make a view of each file and give up everything else."""
        paths = sorted({table["path"] for table in tables})
        # Before DuckDB has threads: each thread is confined for itself.
        confined = confinement.confine([Path(path) for path in paths], self._directory)
        self._connection = duckdb.connect(":memory:")
        listed = ", ".join(map(quoted, paths))
        run = self._connection.execute
        run(f"SET allowed_paths=[{listed}]")
        for name, value in self._settings.items():
            run(f"SET {name}={value}")
        run("SET enable_external_access=false")
        for table in tables:
            name = identifier(table["name"])
            if table["schema"] is not None:
                run(f"CREATE SCHEMA IF NOT EXISTS {identifier(table['schema'])}")
                name = f"{identifier(table['schema'])}.{name}"
            file = quoted(table["path"])
            run(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({file})")  # noqa: S608 - quoted
            self._names[table["path"]] = table["name"]
        run("SET lock_configuration=true")
        return confined

    def convert(
        self,
        source: str,
        format_: str,
        target: str,
        size: int,
        types: dict[str, str],
        snapshot: str | None,
    ) -> Any:
        """Write a file or table of another format as Parquet; whether all of it is in `size`
        bytes, and which version of a table it is."""
        confinement.confine([Path(source)], self._directory)
        self._names[source] = "the file"
        whole, read = convert(Path(source), format_, Path(target), size, types, snapshot)
        return {"whole": whole, "snapshot": read}

    def rows(self, sql: str, limit: int) -> Any:
        """The first rows as JSON values, with their columns."""
        reader = self._reader(sql)
        columns = [[field.name, str(field.type), field.nullable] for field in reader.schema]
        found = rows_of(reader, limit)
        # What is left of the result is not computed.
        reader.close()
        return {"columns": columns, "rows": found}

    def write(
        self, sql: str, target: str, rows: int | None, size: int, memory: int, like: str | None
    ) -> Any:
        """Write the result as Parquet, and stop at the first limit that it reaches."""
        reader = self._reader(sql)
        schema = reader.schema if like is None else _like(reader.schema, pq.read_schema(like))
        refuse_doubles(schema.names)
        written = write_parquet(schema, reader, target, rows, size, memory)
        reader.close()
        return written

    def _reader(self, sql: str) -> Any:
        if self._reading:
            # Also where the statement before has failed.
            self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        self._reading = True
        relation = self._connection.sql(sql)
        if relation is None:
            raise Refused("The query has no result.")
        casts = [_CASTS.get(str(kind)) for kind in relation.types]
        if any(casts):
            # Without its comments and semicolons: this becomes a part of another query.
            relation = self._connection.sql(canonical(self._connection, sql)).project(
                ", ".join(
                    f"{f'CAST(#{place} AS {cast})' if cast else f'#{place}'} AS {identifier(name)}"
                    for place, (cast, name) in enumerate(
                        zip(casts, relation.columns, strict=True), 1
                    )
                )
            )
        return relation.to_arrow_reader(_BATCH_ROWS)

    def explain(self, error: Exception) -> dict[str, str]:
        """The answer to a request that failed: DuckDB's text without the paths of files, which are
        none of the user's business."""
        if isinstance(error, duckdb.OutOfMemoryException | MemoryError | pa.ArrowMemoryError):
            return {"exceeded": "memory"}
        text = str(error)
        if isinstance(error, Refused):
            return {"refused": text}
        for path, name in self._names.items():
            text = text.replace(path, name)
        return {"refused": text.replace(str(self._directory), "…")}


def refuse_doubles(names: Sequence[str]) -> None:
    """Raise `Refused` if two columns of a result have one name."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Refused(f"Two columns of the result are called {twice!r}: name one with AS.")


def _like(schema: pa.Schema, original: pa.Schema) -> pa.Schema:
    """With the types that the dataset itself has, where a column is one of its."""
    return pa.schema(
        [original.field(field.name) if field.name in original.names else field for field in schema]
    )


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def answer_requests(make: Callable[..., Any], expected: tuple[type[Exception], ...]) -> None:
    """Serve what comes in with the worker that `make` makes; each of the `expected` errors is an
    answer, as the worker explains it."""
    expected = (Refused, MemoryError, *expected)
    confinement.die_with(int(sys.argv[1]))
    # Answers go where nothing else in this process writes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    requests = _requests()
    start = next(requests)
    confinement.limit(start.pop("cpu_seconds"), start.pop("file_bytes"))
    worker = make(Path(start.pop("directory")), **start)
    for request in requests:
        answer: dict[str, Any]
        try:
            answer = {"answer": getattr(worker, request.pop("verb"))(**request)}
        except expected as error:
            answer = worker.explain(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    answer_requests(Worker, (duckdb.Error, pa.ArrowException, OSError, ValueError))


if __name__ == "__main__":
    main()
