"""`%aiaas compare`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    parser.add_argument("first", type=positive, metavar="V1", help="a version that is loaded")
    parser.add_argument("second", type=positive, metavar="V2", help="another one")
    batch = parser.add_argument("batch", metavar="VAR", help="an array or DataFrame of rows")
    completed(batch, "variable")
    parser.add_argument("--by", metavar="COLUMN", help="a column of VAR: differences by its values")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    rows = call.value_of(args.batch)
    return endpoints.get(args.name).compare(args.first, args.second, rows, by=args.by)


COMMAND = Command(
    "compare",
    "show where two versions of an endpoint answer differently",
    add_arguments,
    run,
    examples=("%aiaas compare digits 1 2 rows --by country",),
)
