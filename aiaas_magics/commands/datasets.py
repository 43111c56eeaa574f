"""`%aiaas datasets`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="shell pattern on the name")
    parser.add_argument(
        "--search",
        metavar="WORDS",
        help="words in name, owner, columns, tags or description; column:price looks in one place",
    )
    parser.add_argument("--owner", metavar="WHO", help="only those of this user")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets

    return datasets.list(args.pattern, search=args.search, owner=args.owner)


COMMAND = Command(
    "datasets",
    "list the datasets that I may read",
    add_arguments,
    run,
    examples=(
        "%aiaas datasets",
        "%aiaas datasets sales-*",
        "%aiaas datasets --search 'column:price tag:gold'",
    ),
)
