"""`%aiaas runs`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=positive, default=20, metavar="N", help="how many")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import newest

    return newest(args.n)


COMMAND = Command("runs", "list my runs, newest first", add_arguments, run)
