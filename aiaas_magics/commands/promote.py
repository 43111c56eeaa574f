"""`%aiaas promote`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    parser.add_argument("--why", default="", metavar="TEXT", help="for the history")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    return endpoints.get(args.name).promote(args.why)


COMMAND = Command(
    "promote",
    "give a canary all requests",
    add_arguments,
    run,
    examples=("%aiaas promote digits --why 'fewer errors'",),
)
