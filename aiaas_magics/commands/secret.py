"""`%aiaas secret`"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, completed

# Written out: schemas bring pydantic along, and verbs are declared when the extension loads.
KINDS = ("s3", "gs", "abfss", "webhdfs", "https")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["set", "delete"], help="set or delete")
    parser.add_argument("name", metavar="NAME", help="what to call it")
    parser.add_argument("--kind", choices=KINDS, help="where it is for")
    file = parser.add_argument(
        "--file", metavar="PATH", help="the JSON file of a Google service account's key"
    )
    completed(file, "path")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.secret import secrets

    if args.action == "delete":
        return secrets.delete(args.name)
    if args.kind is None:
        raise UsageError(f"What for? --kind is one of: {', '.join(KINDS)}.")
    return secrets.set(args.name, args.kind, file=args.file)


COMMAND = Command(
    "secret",
    "keep credentials for storage with the platform, asked for unseen, or delete them",
    add_arguments,
    run,
    examples=(
        "%aiaas secret set lab --kind s3",
        "%aiaas secret delete lab",
    ),
)
