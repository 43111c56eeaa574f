"""`%aiaas secrets`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.secret import secrets

    return secrets.list()


COMMAND = Command(
    "secrets",
    "the secrets that I keep with the platform, without what is in them",
    add_arguments,
    run,
    examples=("%aiaas secrets",),
)
