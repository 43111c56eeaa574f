"""DuckDB's SQL as Spark's, and what of it Spark may be asked.

DuckDB's parser has said before that this is one SELECT and which datasets it reads. But DuckDB and
Spark read a text differently (a backslash in a string, a name in backquotes), so what the user
typed never reaches Spark: it gets a text written anew from a syntax tree, whose tables are views
by our own names and whose functions are on a list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from aiaas_hub.adapters.duckdb_queries.statement import Refused
from aiaas_hub.domain.data_ports import TableName


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS = _words(
    "all and any as between by case cross cube distinct else end except exclude exists filter "
    "following from full group grouping having in inner intersect is join lateral left like "
    "limit natural not offset on or order outer over partition percent pivot preceding "
    "qualify range recursive right rlike rollup rows select semi sets some tablesample then "
    "union unpivot using values view when where window with within "
)
"""Words after which a parenthesis is not a call."""
_TYPES = _words("array binary char decimal map struct timestamp varchar ")
_SQL_ONLY = _words(
    "percentile_cont percentile_disc "
    "cast div extract if mod now position substring timestampadd timestampdiff trim try_cast "
    "char_length date timestamp string int bigint double float boolean day month year "
)
"""Functions of Spark's SQL that Python's list does not have by this name."""
_REFUSED = _words(
    "java_method reflect try_reflect input_file_name input_file_block_start "
    "input_file_block_length current_catalog current_database current_path current_schema "
    "current_user session_user user version udf udtf arrow_udtf call_function call_udf "
    "unwrap_udt "
)
"""They run Java, or tell of the process and not of the data."""


def spark_functions() -> frozenset[str]:
    """Names of the functions that Spark comes with, without those that may not be used."""
    from pyspark.sql.functions import builtin

    named = {name for name, thing in vars(builtin).items() if callable(thing)}
    return frozenset(name.lower() for name in named if name[:1] != "_") - _REFUSED | _SQL_ONLY


def translate(sql: str, views: Mapping[TableName, str], functions: Collection[str]) -> str:
    """The query in Spark's SQL, on `views`: table as the query names it → view. Raises `Refused`
    for what Spark cannot be asked, or may not."""
    try:
        parsed = sqlglot.parse(sql, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise _untranslatable() from error
    trees = [tree for tree in parsed if tree is not None and not isinstance(tree, exp.Semicolon)]
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise _untranslatable()
    (tree,) = trees
    _rename(tree, views)
    _require_plain(tree)
    try:
        text = tree.sql(
            dialect="spark",
            identify=True,
            comments=False,
            unsupported_level=sqlglot.ErrorLevel.RAISE,
        )
        tokens = sqlglot.tokenize(text, read="spark")
    except sqlglot.errors.SqlglotError as error:
        raise _untranslatable() from error
    named = {alias.name for alias in tree.find_all(exp.TableAlias) if alias.columns}
    for name in _called(tokens, named):
        if name not in functions and name not in _KEYWORDS and name not in _TYPES:
            raise Refused(f"The function {name} may not be used in a query on Spark.")
    return text


def _rename(tree: exp.Expr, views: Mapping[TableName, str]) -> None:
    local = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in list(tree.find_all(exp.Table)):
        if not isinstance(table.this, exp.Identifier):
            # A function that gives a table: its name is looked at with the others.
            continue
        if table.args.get("catalog"):
            raise Refused("A table has one name too many: write OWNER.NAME.")
        owner, name = table.db or None, table.name
        if owner is None and name.lower() in local:
            continue
        view = views.get((owner, name))
        if view is None:
            raise Refused(f"The table {name!r} is not one that this query was given.")
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
        table.set("db", None)
        table.set("this", exp.to_identifier(view, quoted=True))


_PLAIN = frozenset({"this", "alias", "joins", "laterals", "pivots", "sample"})


def _require_plain(tree: exp.Expr) -> None:
    refused = (exp.Command, exp.DDL, exp.DML, exp.Into, exp.Hint, exp.Parameter, exp.Placeholder)
    for node in tree.walk():
        # A SELECT is a DDL to sqlglot, as what a CREATE may end with.
        if isinstance(node, refused) and not isinstance(node, exp.Query):
            raise _untranslatable()
        if isinstance(node, exp.Func) and isinstance(node.this, exp.Identifier):
            raise Refused("A function's name is written without quotes in a query on Spark.")
        if isinstance(node, exp.Anonymous) and not node.name.isidentifier():
            raise Refused("A function's name is written without quotes in a query on Spark.")
        if isinstance(node, exp.Table):
            given = {key for key, value in node.args.items() if value}
            if given - _PLAIN:
                raise _untranslatable()


def _called(tokens: list[Token], aliases: Collection[str]) -> Iterator[str]:
    """What stands before a parenthesis, in small letters, without names of tables' columns; and
    what is refused, which some of it needs no parenthesis for."""
    for token, following in pairwise([*tokens, Token(TokenType.SENTINEL, "")]):
        quoted = token.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        if not quoted and token.text.lower() in _REFUSED:
            yield token.text.lower()
        if following.token_type is not TokenType.L_PAREN:
            continue
        if token.token_type is TokenType.IDENTIFIER:
            if token.text not in aliases:
                yield token.text.lower()
        elif token.text.replace("_", "").isalnum():
            yield token.text.lower()


def _untranslatable() -> Refused:
    return Refused("This query cannot be said in Spark's SQL: leave --engine out, or write it anew")
