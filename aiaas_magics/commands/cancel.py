"""`%aiaas cancel`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="ID", help="a run"), "run")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import runs

    return runs.get(args.name).cancel()


COMMAND = Command(
    "cancel",
    "stop a run",
    add_arguments,
    run,
    examples=("%aiaas cancel run-1234567890",),
)
