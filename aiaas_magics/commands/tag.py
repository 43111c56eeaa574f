"""`%aiaas tag`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a dataset"), "dataset")
    parser.add_argument("tag", metavar="TAG", help="what to call this version, such as golden")
    parser.add_argument("--remove", action="store_true", help="take the tag away")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets
    from aiaas_magics.display import Note

    dataset = datasets.get(args.name)
    if args.remove:
        dataset.untag(args.tag)
        return Note(f"No version of {dataset.owner}/{dataset.name} is {args.tag} any more.")
    return dataset.tag(args.tag)


COMMAND = Command(
    "tag",
    "give a version of a dataset a name",
    add_arguments,
    run,
    examples=(
        "%aiaas tag sales@3 golden",
        "%aiaas tag sales golden --remove",
    ),
)
