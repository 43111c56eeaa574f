"""`%aiaas register`"""

from __future__ import annotations

import argparse
import re

from aiaas_magics.commands.command import Call, Command, completed, count

# Written out: schemas bring pydantic along, and verbs are declared when the extension loads.
FORMATS = ("parquet", "csv", "jsonl", "arrow", "orc", "text", "delta", "iceberg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call it")
    uri = parser.add_argument(
        "uri",
        metavar="URI",
        help="a path below your notebook directory, https://…, or, where that is allowed, s3://…, "
        "gs://…, abfss://…, webhdfs://… or hdfs://…: a file, or the folder of a Delta Lake or "
        "Iceberg table",
    )
    completed(uri, "path")
    parser.add_argument(
        "--format", metavar="F", choices=FORMATS, help="what it is, if its name does not tell"
    )
    parser.add_argument(
        "--schema",
        metavar="col=type,…",
        type=types,
        help="types of columns of CSV and JSON lines that are not to be guessed: "
        "zip=string,at=date32",
    )
    parser.add_argument(
        "--snapshot",
        type=count,
        metavar="V",
        help="of a Delta Lake table this version, of an Iceberg table this snapshot: the newest",
    )
    parser.add_argument("--secret", metavar="S", help="read it with my secret of this name")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets

    return datasets.register(
        args.name,
        args.uri,
        format=args.format,
        schema=args.schema,
        snapshot=args.snapshot,
        secret=args.secret,
    )


def types(text: str) -> dict[str, str]:
    """`column=type,column=type`; a type may have brackets with commas in them."""
    found = {}
    for piece in re.split(r",(?![^\[(]*[\])])", text):
        name, equals, kind = (part.strip() for part in piece.rpartition("="))
        if not name or not equals or not kind:
            raise argparse.ArgumentTypeError(f"{piece.strip()!r} is not COLUMN=TYPE")
        found[name] = kind
    return found


COMMAND = Command(
    "register",
    "make a dataset of a file below your notebook directory",
    add_arguments,
    run,
    examples=(
        "%aiaas register sales data/sales.csv",
        "%aiaas register clicks s3://bucket/clicks/ --format parquet",
        "%aiaas register clicks s3://bucket/clicks/ --secret lab",
    ),
)
