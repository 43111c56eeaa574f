"""`%aiaas load`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, comma_list, completed, positive, variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a dataset"), "dataset")
    parser.add_argument("--into", type=variable, metavar="df", help="variable to make")
    completed(
        parser.add_argument("--columns", type=comma_list, metavar="a,b", help="only these columns"),
        "column",
    )
    parser.add_argument("--where", metavar="SQL", help="only rows that fulfil this: 'price > 10'")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first rows")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets
    from aiaas_magics.display import Note

    dataset = datasets.get(args.name)
    frame = dataset.to_pandas(columns=args.columns, where=args.where, limit=args.limit)
    if args.into is None:
        return frame
    call.bind(args.into, frame)
    return Note(f"{args.into}: {len(frame):,} rows, {frame.shape[1]:,} columns of {dataset}")


COMMAND = Command(
    "load",
    "load a dataset as a pandas DataFrame",
    add_arguments,
    run,
    examples=(
        "df = %aiaas load sales",
        "%aiaas load sales@golden --into df --columns day,price --where \"city = 'Ghent'\"",
    ),
)
