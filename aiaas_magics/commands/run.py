"""`%aiaas run`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="ID", help="a run"), "run")

    parser.add_argument(
        "--mlflow",
        metavar="URI",
        help="write it to this MLflow: http://…, sqlite:///mlflow.db; where AIAAS_MLFLOW_URI "
        "has an address, every run that is watched to its end goes there by itself",
    )
    parser.add_argument(
        "--tensorboard",
        metavar="DIR",
        help="write its metrics, and what its workers wrote, as TensorBoard's files",
    )


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.run import runs

    found = runs.get(args.name)
    written = []
    if args.mlflow is not None:
        written.append(f"In MLflow it is run {found.to_mlflow(args.mlflow)}.")
    if args.tensorboard is not None:
        where = found.to_tensorboard(args.tensorboard)
        written.append(f"Its metrics are in {where}: tensorboard --logdir {args.tensorboard}")
    if written:
        from aiaas_magics.display import Text

        return Text("\n".join(written))
    return found


COMMAND = Command(
    "run",
    "show a run, or write it to MLflow or TensorBoard",
    add_arguments,
    run,
    examples=(
        "%aiaas run run-1234567890",
        "%aiaas run run-1234567890 --tensorboard logs",
    ),
)
