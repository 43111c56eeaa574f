"""`%aiaas endpoints`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # takes none


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    return endpoints.list()


COMMAND = Command(
    "endpoints",
    "list my endpoints",
    add_arguments,
    run,
    examples=("%aiaas endpoints",),
)
