"""`%aiaas panel`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        choices=("datasets", "runs", "deploy"),
        help="browse data; watch, cancel and resume runs; publish, split traffic and roll back",
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.panels import panel

    return panel(args.kind)


COMMAND = Command(
    "panel",
    "browse, watch or deploy by clicking",
    add_arguments,
    run,
    examples=(
        "%aiaas panel datasets",
        "%aiaas panel deploy",
    ),
)
