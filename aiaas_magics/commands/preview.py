"""`%aiaas preview`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, comma_list, completed, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a dataset"), "dataset")
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="how many rows")
    parser.add_argument("--columns", type=comma_list, metavar="a,b", help="only these columns")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.dataset import datasets

    return datasets.get(args.name).preview(args.n, columns=args.columns)


COMMAND = Command("preview", "look at the first rows of a dataset", add_arguments, run)
