"""`%aiaas rollback`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    parser.add_argument("--why", default="", metavar="TEXT", help="for the history")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    return endpoints.get(args.name).rollback(args.why)


COMMAND = Command(
    "rollback",
    "go back to what served before, at once",
    add_arguments,
    run,
    examples=("%aiaas rollback digits",),
)
