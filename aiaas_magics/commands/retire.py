"""`%aiaas retire`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    parser.add_argument("--why", default="", metavar="TEXT", help="for the history")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    return endpoints.get(args.name).retire(args.why)


COMMAND = Command(
    "retire",
    "stop serving an endpoint",
    add_arguments,
    run,
    examples=("%aiaas retire digits --why 'nobody calls it'",),
)
