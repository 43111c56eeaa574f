"""`%aiaas keys`"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, completed, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    parser.add_argument("action", nargs="?", choices=["create", "revoke"], help="create or revoke")
    parser.add_argument("id", nargs="?", metavar="ID", help="the key to revoke")
    parser.add_argument("--days", type=float, default=90, metavar="N", help="how long it is valid")
    parser.add_argument(
        "--scope",
        choices=["metadata", "infer", "versions"],
        default="infer",
        help="metadata only, inference, or inference by an exact version too",
    )
    parser.add_argument("--rate", type=positive, metavar="N", help="most requests per second")
    parser.add_argument("--note", default="", metavar="TEXT", help="who it is for")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.endpoint import endpoints

    if args.action == "revoke" and args.id is None:
        raise UsageError(
            f"Which key? List them with '%aiaas keys {args.name}', then '… revoke ID'."
        )
    if args.action != "revoke" and args.id is not None:
        raise UsageError(f"'create' takes no id: write '%aiaas keys {args.name} create'.")
    endpoint = endpoints.get(args.name)
    if args.action == "create":
        return endpoint.create_key(
            note=args.note, expires_in_days=args.days, scope=args.scope, rate=args.rate
        )
    if args.action == "revoke":
        return endpoint.revoke_key(args.id)
    return endpoint.keys()


COMMAND = Command(
    "keys",
    "list, make and revoke keys for callers outside of the hub",
    add_arguments,
    run,
    examples=(
        "%aiaas keys digits",
        "key = %aiaas keys digits create --days 30 --rate 100 --note 'the web shop'",
        "%aiaas keys digits revoke {key.id}",
    ),
)
