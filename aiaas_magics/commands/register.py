"""`%aiaas register`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call it")
    parser.add_argument(
        "uri", metavar="URI", help="its path or file:// address, below your notebook directory"
    )
    parser.add_argument("--format", metavar="F", choices=["parquet", "csv"], help="parquet or csv")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets

    return datasets.register(args.name, args.uri, format=args.format)


COMMAND = Command("register", "register a local Parquet or CSV file", add_arguments, run)
