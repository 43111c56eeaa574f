"""`%aiaas metrics`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="ID", help="a run"), "run")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import runs
    from aiaas_magics.run_metrics import RunMetrics

    return RunMetrics(runs.get(args.name))


COMMAND = Command(
    "metrics",
    "plot and tabulate what a run has reported",
    add_arguments,
    run,
    examples=("%aiaas metrics run-1234567890",),
)
