"""`%aiaas resume`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed
from aiaas_magics.commands.train import parameter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="ID", help="a run that is over"), "run")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        type=parameter,
        metavar="k=v",
        help="another value for ctx.params; may be given again",
    )
    parser.add_argument(
        "--time-limit", metavar="T", help="another limit: seconds, or such as 30m or 2h"
    )
    parser.add_argument("--detach", action="store_true", help="return once it is submitted")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.request import seconds
    from aiaas_magics.run import runs
    from aiaas_magics.submission import follow

    limit = seconds(args.time_limit)
    resumed = runs.get(args.name).resume_with(dict(args.param), time_limit=limit)
    return resumed if args.detach else follow(resumed)


COMMAND = Command(
    "resume",
    "go on from a run's last checkpoint",
    add_arguments,
    run,
    examples=("%aiaas resume run-1234567890 --param epochs=20",),
)
