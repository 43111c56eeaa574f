"""`%aiaas lineage`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    thing = parser.add_argument(
        "thing", metavar="THING", help="a run's id, an endpoint, a model or a dataset"
    )
    completed(thing, "endpoint")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.lineage import lineage_of

    return lineage_of(args.thing)


COMMAND = Command(
    "lineage",
    "show what a thing came from",
    add_arguments,
    run,
    examples=(
        "%aiaas lineage digits",
        "%aiaas lineage cnn@2",
        "%aiaas lineage clean-train@1",
        "%aiaas lineage dataset:digits",
    ),
)
