"""`%aiaas model`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a model"), "model")
    parser.add_argument("--alias", metavar="WORD", help="call this version so: NAME@WORD")
    parser.add_argument("--no-alias", metavar="WORD", help="call it so no more")
    parser.add_argument("--licence", metavar="TEXT", help="for its card, as Apache-2.0")
    parser.add_argument("--description", metavar="TEXT", help="for its card")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.model import models

    model = models.get(args.name)
    if args.alias is not None:
        model.set_alias(args.alias)
    if args.no_alias is not None:
        model.remove_alias(args.no_alias)
    if args.licence is not None or args.description is not None:
        model.describe(args.description, licence=args.licence)
    return model


COMMAND = Command(
    "model",
    "show a model's card, or name a version",
    add_arguments,
    run,
    examples=(
        "%aiaas model cnn@2",
        "%aiaas model cnn@2 --alias champion --licence Apache-2.0",
    ),
)
