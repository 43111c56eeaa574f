"""`%%aiaas sql`"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, positive, variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--into", type=variable, metavar="df", help="variable to make")
    parser.add_argument(
        "--save", metavar="NAME", help="keep all of the result as a new version of this dataset"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first rows")
    parser.add_argument(
        "--engine",
        choices=["duckdb", "spark"],
        default="duckdb",
        help="what runs it: spark, where the platform has one, takes longer to begin",
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets
    from aiaas_magics.display import Note

    if not call.cell or not call.cell.strip():
        raise UsageError("There is no query: write a SELECT below '%%aiaas sql'.")
    if args.save is not None:
        if args.limit is not None:
            raise UsageError("--save keeps all of the result: write LIMIT into the query instead.")
        saved = datasets.save_sql(args.save, call.cell, engine=args.engine)
        if args.into is not None:
            call.bind(args.into, saved)
        return saved
    result = datasets.sql(call.cell, limit=args.limit, engine=args.engine)
    if args.into is None:
        return result
    call.bind(args.into, result.to_pandas())
    read = f" of {', '.join(result.datasets)}" if result.datasets else ""
    columns = result.to_arrow().num_columns
    note = f"{args.into}: {len(result):,} rows, {columns:,} columns{read}"
    return Note(f"{note}. {result.caution}" if result.is_cut else note)


COMMAND = Command(
    "sql",
    "query datasets with the SQL of this cell",
    add_arguments,
    run,
    cell=True,
    examples=(
        "%%aiaas sql --into top\nSELECT city, sum(price) AS total FROM sales GROUP BY city",
        "%%aiaas sql --save cheap\nSELECT * FROM sales WHERE price < 10",
        "%%aiaas sql --engine spark\nSELECT city, sum(price) AS total FROM sales GROUP BY city",
    ),
)
