"""What a statement may be, told from its syntax tree before any of it is bound or run.

A list of what is allowed, not of what is not: DuckDB 2 lets a COPY stand in a WITH, and a file
that a query may read is one that DuckDB would then write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS = frozenset(
    {"unnest", "range", "generate_series", "repeat", "repeat_row", "json_each", "json_tree"}
)
# They tell of the process, not of the data.
_REFUSED_FUNCTIONS = frozenset({"current_setting", "getenv", "getvariable", "write_log"})


class Refused(Exception):
    """Its text is for the user."""


def tables_of(sql: str) -> list[tuple[str | None, str]]:
    """The tables that one SELECT reads, as (schema, name). Raises `Refused` for anything else."""
    with duckdb.connect(":memory:") as parser:
        parser.execute("SET enable_external_access=false")
        try:
            statements = parser.extract_statements(sql)
        except duckdb.Error as error:
            raise Refused(str(error)) from error
        if len(statements) != 1:
            raise Refused(
                f"A query is one statement; these are {len(statements)}."
                if statements
                else "There is no query."
            )
        kind = statements[0].type
        if kind is not duckdb.StatementType.SELECT:
            raise Refused(f"A query is a SELECT; this is {_article(kind.name)}.")
        row = parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        raise Refused(f"The query cannot be read: {tree.get('error_message', 'unknown error')}.")
    objects = list(_objects(tree["statements"]))
    for item in objects:
        _check(item)
    local = {str(cte["key"]).lower() for item in objects for cte in _ctes(item)}
    found = dict.fromkeys(
        _table(item)
        for item in objects
        if item.get("type") == "BASE_TABLE" and not _is_local(item, local)
    )
    return list(found)


def canonical(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The same SELECT as DuckDB itself would write it."""
    written = "SELECT json_deserialize_sql(json_serialize_sql(?))"
    ((text,),) = connection.execute(written, [sql]).fetchall()
    return str(text)


def _check(item: dict[str, Any]) -> None:
    kind = str(item.get("type", ""))
    if (kind.endswith("_NODE") or "cte_map" in item) and kind not in _QUERY_NODES:
        name = kind.removesuffix("_QUERY_NODE").removesuffix("_NODE")
        raise Refused(f"A query only reads; this one has {_article(name)} in it.")
    if kind == "TABLE_FUNCTION":
        function = item.get("function") or {}
        name = str(function.get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise Refused(f"The function {name} may not be used: a query reads datasets only.")
    if kind == "FUNCTION" and str(item.get("function_name", "")).lower() in _REFUSED_FUNCTIONS:
        raise Refused(f"The function {item['function_name']} may not be used in a query.")


def _objects(tree: Any) -> Iterator[dict[str, Any]]:
    # A stack, not recursion: a query may be nested as deeply as DuckDB's parser allows.
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _ctes(item: dict[str, Any]) -> list[dict[str, Any]]:
    ctes: list[dict[str, Any]] = (item.get("cte_map") or {}).get("map") or []
    return ctes


def _is_local(item: dict[str, Any], ctes: set[str]) -> bool:
    return not item.get("schema_name") and str(item["table_name"]).lower() in ctes


def _table(item: dict[str, Any]) -> tuple[str | None, str]:
    if item.get("catalog_name"):
        raise Refused(f"{item['catalog_name']!r} is one name too many: write OWNER.NAME.")
    return item.get("schema_name") or None, str(item["table_name"])


def _article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"
