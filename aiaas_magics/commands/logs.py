"""`%aiaas logs`"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from aiaas_magics.commands.command import Call, Command, completed

if TYPE_CHECKING:
    from aiaas_magics.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="ID", help="a run"), "run")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import runs

    run = runs.get(args.name)
    if not args.follow:
        return run.logs()
    try:
        follow_log(run)
    except KeyboardInterrupt:
        from aiaas_magics.submission import say_detached

        say_detached(run)
    return run


def follow_log(run: Run) -> None:
    """Write the log as it grows. Its end is the run's end, which the run's state says."""
    from aiaas_hub.schemas.runs import LogChunk
    from aiaas_magics.display import clean

    for update in run._client.runs.watch(run.id):
        if isinstance(update, LogChunk):
            sys.stdout.write(clean(update.text))
            sys.stdout.flush()
    run.refresh(always=True)


COMMAND = Command("logs", "show what a run has written", add_arguments, run)
