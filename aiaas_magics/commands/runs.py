"""`%aiaas runs`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=positive, default=20, metavar="N", help="how many")
    compare = parser.add_argument(
        "--compare", nargs="+", metavar="ID", help="put these side by side instead"
    )
    completed(compare, "run")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import newest, runs

    return runs.compare(*args.compare) if args.compare else newest(args.n)


COMMAND = Command(
    "runs",
    "list my runs, newest first, or compare some",
    add_arguments,
    run,
    examples=(
        "%aiaas runs -n 5",
        "%aiaas runs --compare run-1234567890 run-0987654321",
    ),
)
