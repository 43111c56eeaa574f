"""`%aiaas models`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # takes none


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.model import models

    return models.list()


COMMAND = Command(
    "models",
    "list my models",
    add_arguments,
    run,
    examples=("%aiaas models",),
)
