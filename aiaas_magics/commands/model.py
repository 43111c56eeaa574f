"""`%aiaas model`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a model"), "model")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.model import models

    return models.get(args.name)


COMMAND = Command("model", "show a model", add_arguments, run)
