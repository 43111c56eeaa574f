"""`%aiaas attach`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed, rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    name = parser.add_argument(
        "name", nargs="?", metavar="ID", help="a run; without it, the newest that goes on"
    )
    completed(name, "run")
    parser.add_argument("--worker", type=rank, metavar="N", help="show this worker's log alone")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import newest_live, runs
    from aiaas_magics.submission import follow

    return follow(newest_live() if args.name is None else runs.get(args.name), worker=args.worker)


COMMAND = Command(
    "attach",
    "watch a run again",
    add_arguments,
    run,
    examples=(
        "%aiaas attach",
        "%aiaas attach run-1234567890 --worker 1",
    ),
)
