"""`%aiaas register`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed

# Written out: schemas bring pydantic along, and verbs are declared when the extension loads.
FORMATS = ("parquet", "csv", "jsonl", "arrow", "orc", "text")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call it")
    uri = parser.add_argument(
        "uri",
        metavar="URI",
        help="a path below your notebook directory, https://…, or s3://… where that is allowed",
    )
    completed(uri, "path")
    parser.add_argument(
        "--format", metavar="F", choices=FORMATS, help="what it is, if its name does not tell"
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets

    return datasets.register(args.name, args.uri, format=args.format)


COMMAND = Command(
    "register",
    "make a dataset of a file below your notebook directory",
    add_arguments,
    run,
    examples=(
        "%aiaas register sales data/sales.csv",
        "%aiaas register clicks s3://bucket/clicks/ --format parquet",
    ),
)
