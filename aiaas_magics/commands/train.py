"""`%%aiaas train`"""

from __future__ import annotations

import argparse
import ast
import json
import math
from typing import Any

from IPython.core.error import UsageError

from aiaas_magics import not_yet
from aiaas_magics.commands.command import Call, Command, completed, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", nargs="?", metavar="SCRIPT", help=argparse.SUPPRESS)
    parser.add_argument("--name", metavar="N", help="what to call the run and its model")
    dataset = parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="D[@V]",
        help="a dataset for ctx.dataset(); may be given again",
    )
    completed(dataset, "dataset")
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="how many workers")
    parser.add_argument(
        "--gpus-per-worker", type=float, default=0, metavar="N", help="GPUs for each"
    )
    parser.add_argument(
        "--cpus-per-worker", type=float, default=1, metavar="N", help="processors for each"
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        type=parameter,
        metavar="k=v",
        help="a value for ctx.params; may be given again",
    )
    parser.add_argument(
        "--retries", type=int, default=0, metavar="N", help="attempts after a failure"
    )
    parser.add_argument("--detach", action="store_true", help="return once it is submitted")


def run(args: argparse.Namespace, call: Call) -> object:
    if args.script is not None and call.cell is not None:
        raise UsageError(
            f"{args.script!r} is no option of train: a run's name has one. "
            f"Write '--name {args.script}'."
            if args.name is None
            else f"{args.script!r} is no option of train. See '%aiaas help train'."
        )
    if args.script is not None:
        not_yet.refuse(f"'%aiaas train {args.script}'", not_yet.SCRIPT)
    if call.cell is None:
        raise UsageError(
            "train needs a cell: write '%%aiaas train --name NAME' as its first line, and below "
            "it the code that defines train(ctx)."
        )
    if args.name is None:
        raise UsageError("The run has no name. Add '--name NAME'.")
    from aiaas_magics import snapshot
    from aiaas_magics.submission import Request, follow, submit

    request = Request(
        name=args.name,
        datasets=args.dataset,
        workers=args.workers,
        cpus_per_worker=args.cpus_per_worker,
        gpus_per_worker=args.gpus_per_worker,
        params=dict(args.param),
        retries=args.retries,
    )
    request.check()
    submitted = submit(snapshot.of_cell(call.cell, call.line), request)
    return submitted if args.detach else follow(submitted)


def parameter(text: str) -> tuple[str, Any]:
    """`k=v`; a value that is a JSON or Python literal is taken as such, any other as a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), _value(value)


def _value(text: str) -> Any:
    words = {"True": True, "False": False, "None": None, "null": None}
    if text in words:
        return words[text]
    try:
        parsed = json.loads(text, parse_constant=lambda _: None)
    except ValueError:
        parsed = None
    # Containers are no values of parameters: they stay the text that was typed.
    if isinstance(parsed, str | int | float | bool):
        return parsed
    try:
        number = float(text)
        # `.01` and `1_000` are Python's numbers and not JSON's; `007` is neither, but a text.
        return ast.literal_eval(text) if math.isfinite(number) else number
    except (ValueError, SyntaxError):
        return text


COMMAND = Command("train", "train on the platform's workers", add_arguments, run, cell=True)
