"""`%aiaas publish`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(
        parser.add_argument("name", metavar="ENDPOINT", help="what to call the endpoint"),
        "endpoint",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    completed(source.add_argument("--run", metavar="ID", help="the model of this run"), "run")
    completed(source.add_argument("--model", metavar="NAME[@V]", help="this model"), "model")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.publishing import publish_model, publish_run

    if args.run is not None:
        return publish_run(args.run, args.name)
    return publish_model(args.model, args.name)


COMMAND = Command("publish", "serve a run's model at an endpoint", add_arguments, run)
