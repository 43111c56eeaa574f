"""`%aiaas traffic`"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, completed, percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    parser.add_argument(
        "shares",
        nargs="+",
        type=share,
        metavar="V=PERCENT",
        help="a version's share of the requests; together 100",
    )
    parser.add_argument(
        "--sticky",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the same caller always comes to the same version",
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="for the history")


def share(text: str) -> tuple[int, int]:
    """Type of an argument such as `2=10`."""
    version, equals, part = text.partition("=")
    if not equals or not version.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not VERSION=PERCENT, as in 2=10")
    return int(version), percent(part)


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    shares = dict(args.shares)
    if len(shares) < len(args.shares):
        raise UsageError("A version is named twice. Give each version one share.")
    return endpoints.get(args.name).set_traffic(shares, args.why, sticky=args.sticky)


COMMAND = Command(
    "traffic",
    "split an endpoint's requests among versions",
    add_arguments,
    run,
    examples=(
        "%aiaas traffic digits 1=70 2=30 --why 'it looks good'",
        "%aiaas traffic digits 1=70 2=30 --sticky",
    ),
)
