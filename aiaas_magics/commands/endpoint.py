"""`%aiaas endpoint`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    parser.add_argument(
        "--snippet",
        choices=["python", "curl", "javascript", "java", "go"],
        metavar="LANG",
        help="a program that calls it: python, curl, javascript, java or go",
    )
    parser.add_argument(
        "--statistics",
        action="store_true",
        help="requests, errors, latency, batches and queue of each version, as table and curves",
    )
    parser.add_argument(
        "--drift",
        action="store_true",
        help="how what callers send differs from what the model was made from",
    )
    parser.add_argument("--history", action="store_true", help="every change of what serves")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    endpoint = endpoints.get(args.name)
    if args.snippet is not None:
        return endpoint.snippet(args.snippet)
    if args.statistics:
        return endpoint.statistics()
    if args.drift:
        return endpoint.drift()
    return endpoint.history() if args.history else endpoint


COMMAND = Command(
    "endpoint",
    "show an endpoint",
    add_arguments,
    run,
    examples=(
        "%aiaas endpoint digits",
        "%aiaas endpoint digits --statistics",
        "%aiaas endpoint digits --drift",
        "program = %aiaas endpoint digits --snippet curl",
    ),
)
