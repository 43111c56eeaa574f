"""`%aiaas usage`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by",
        choices=["user", "group", "profile", "run", "endpoint", "server", "day"],
        default="run",
        help="what to sum it by",
    )
    parser.add_argument("--since", metavar="DAY", help="default: when the quotas' period began")
    parser.add_argument("--until", metavar="DAY", help="default: now")
    parser.add_argument("--owner", metavar="USER", help="for administrators: only this user's")
    parser.add_argument("--plot", action="store_true", help="as bars")
    parser.add_argument("--csv", metavar="FILE", help="write all of it to a file too")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.consumption import usage

    found = usage(by=args.by, since=args.since, until=args.until, owner=args.owner)
    if args.csv:
        found.to_csv(args.csv)
    return found.plot() if args.plot else found


COMMAND = Command(
    "usage",
    "what I used, what it cost and what is left",
    add_arguments,
    run,
    examples=(
        "%aiaas usage --by day --plot",
        "%aiaas usage --since 2030-01-01 --csv usage.csv",
    ),
)
