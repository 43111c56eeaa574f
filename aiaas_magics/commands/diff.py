"""`%aiaas diff`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="a dataset"), "dataset")
    parser.add_argument("before", metavar="V1", help="a version's number or tag")
    parser.add_argument("after", metavar="V2", help="another one's")
    parser.add_argument(
        "--no-profiles",
        action="store_true",
        help="do not compute profiles for it: schemas and counts at once",
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets

    before = datasets.get(f"{args.name}@{args.before}")
    after = datasets.get(f"{args.name}@{args.after}")
    return after.diff(before.version, profiles=not args.no_profiles)


COMMAND = Command(
    "diff",
    "compare two versions of a dataset",
    add_arguments,
    run,
    examples=(
        "%aiaas diff sales 1 2",
        "%aiaas diff sales golden latest --no-profiles",
    ),
)
