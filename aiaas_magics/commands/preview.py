"""`%aiaas preview`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, comma_list, completed, count, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a dataset"), "dataset")
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="how many rows")
    completed(
        parser.add_argument("--columns", type=comma_list, metavar="a,b", help="only these columns"),
        "column",
    )
    parser.add_argument("--where", metavar="SQL", help="only rows that fulfil this: 'price > 10'")
    parser.add_argument(
        "--sort", type=comma_list, metavar="a[:desc],b", help="in the order of these columns"
    )
    parser.add_argument(
        "--offset", type=count, default=0, metavar="N", help="leave out so many rows before"
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets

    return datasets.get(args.name).preview(
        args.n, columns=args.columns, where=args.where, sort=args.sort, offset=args.offset
    )


COMMAND = Command(
    "preview",
    "look at the first rows of a dataset",
    add_arguments,
    run,
    examples=(
        "%aiaas preview sales -n 5",
        "%aiaas preview sales@2 --columns day,price --where 'price > 10' --sort price:desc",
    ),
)
