"""`%aiaas logs`"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from aiaas_magics.commands.command import Call, Command, completed, rank

if TYPE_CHECKING:
    from aiaas_magics.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="ID", help="a run"), "run")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")
    parser.add_argument("--worker", type=rank, metavar="N", help="the lines of this one alone")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import runs

    run = runs.get(args.name)
    if not args.follow:
        return run.logs(args.worker)
    try:
        follow_log(run, args.worker)
    except KeyboardInterrupt:
        from aiaas_magics.submission import say_detached

        say_detached(run)
    return run


def follow_log(run: Run, worker: int | None = None) -> None:
    """Write the log as it grows. Its end is the run's end, which the run's state says."""
    from aiaas_hub.schemas.runs import LogChunk
    from aiaas_magics.display import clean
    from aiaas_magics.log_tail import of_worker

    workers = run._record.resources.workers
    of_worker("", worker, workers)
    rest = ""
    for update in run._client.runs.watch(run.id):
        if not isinstance(update, LogChunk):
            continue
        text = update.text
        if worker is not None:
            # Whose line it is, is said at its beginning: a line goes out when it is whole.
            whole, newline, rest = (rest + text).rpartition("\n")
            text = of_worker(whole + newline, worker, workers)
        sys.stdout.write(clean(text))
        sys.stdout.flush()
    sys.stdout.write(clean(of_worker(rest, worker, workers)))
    run.refresh(always=True)


COMMAND = Command(
    "logs",
    "show what a run has written",
    add_arguments,
    run,
    examples=(
        "%aiaas logs run-1234567890 -f",
        "text = %aiaas logs run-1234567890 --worker 0",
    ),
)
