"""`%aiaas register`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command

# Written out: schemas bring pydantic along, and verbs are declared when the extension loads.
FORMATS = ("parquet", "csv", "jsonl", "arrow", "orc", "text")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call it")
    parser.add_argument(
        "uri",
        metavar="URI",
        help="a path below your notebook directory, https://…, or s3://… where that is allowed",
    )
    parser.add_argument(
        "--format", metavar="F", choices=FORMATS, help="what it is, if its name does not tell"
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets

    return datasets.register(args.name, args.uri, format=args.format)


COMMAND = Command(
    "register", "make a dataset of a file below your notebook directory", add_arguments, run
)
