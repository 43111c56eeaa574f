"""`%aiaas dataset`"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, comma_list, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a dataset"), "dataset")
    parser.add_argument("--history", action="store_true", help="all its versions")
    parser.add_argument("--describe", metavar="TEXT", help="say what it is, in Markdown")
    parser.add_argument("--licence", metavar="L", help="say under which licence it is")
    parser.add_argument(
        "--tags", type=comma_list, metavar="a,b", help="words by which people find it"
    )
    parser.add_argument(
        "--share",
        metavar="WITH",
        help="who may read it: everyone, group:NAME of yours, or private",
    )
    parser.add_argument(
        "--retire", action="store_true", help="take this version out of use; give NAME@V"
    )
    parser.add_argument(
        "--restore", action="store_true", help="take back a version that was retired"
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.catalogue import datasets
    from aiaas_magics.display import Note

    name, _, version = args.name.partition("@")
    if (args.retire or args.restore) and not version.isdecimal():
        raise UsageError(f"Say which version: '%aiaas dataset {name}@1 --retire'.")
    if args.restore:
        return datasets.restore(name, int(version))
    dataset = datasets.get(args.name)
    if args.retire:
        dataset.retire()
        return Note(f"{dataset} is retired; '%aiaas dataset {name}@{version} --restore' undoes it.")
    if args.share is not None:
        dataset = dataset.share(args.share)
    if (args.describe, args.licence, args.tags) != (None, None, None):
        dataset = dataset.describe(args.describe, licence=args.licence, tags=args.tags)
    return dataset.history() if args.history else dataset


COMMAND = Command(
    "dataset",
    "look at a dataset, describe it, share it",
    add_arguments,
    run,
    examples=(
        "%aiaas dataset sales",
        "%aiaas dataset sales --describe 'What was sold, by day' --tags shop,daily",
        "%aiaas dataset sales --share everyone",
        "%aiaas dataset sales@2 --retire",
    ),
)
