"""`%%aiaas train`, `%aiaas train SCRIPT`"""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, add_scheduling, completed, positive

if TYPE_CHECKING:
    from aiaas_magics.request import Request
    from aiaas_magics.snapshot import Code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    script = parser.add_argument(
        "script",
        nargs="?",
        metavar="SCRIPT",
        help="without a cell: a file .py with its folder, or a whole notebook .ipynb",
    )
    completed(script, "path")
    recipe = parser.add_argument(
        "--recipe", metavar="NAME", help="without a cell: a built-in recipe; see 'help recipe'"
    )
    completed(recipe, "recipe")
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
    profile = parser.add_argument(
        "--profile", metavar="P", help="processors and GPUs for each as this profile has them"
    )
    completed(profile, "profile")
    parser.add_argument("--gpus-per-worker", type=float, metavar="N", help="GPUs for each: 0")
    parser.add_argument("--cpus-per-worker", type=float, metavar="N", help="processors for each: 1")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        type=parameter,
        metavar="k=v",
        help="a value for ctx.params; may be given again",
    )
    add_scheduling(parser, "attempts after a failure, from the last ctx.checkpoint()")
    parser.add_argument(
        "--stop-when",
        metavar="CONDITION",
        help="'accuracy>0.99' stops once reached, 'loss' or 'accuracy:max' when it gets no better, "
        "by ctx.should_stop",
    )
    parser.add_argument(
        "--patience", type=positive, metavar="N", help="reports without a better value of it"
    )
    first = parser.add_mutually_exclusive_group()
    first.add_argument(
        "--plan", action="store_true", help="show what would be sent and happen; send nothing"
    )
    first.add_argument(
        "--smoke", action="store_true", help="first steps on the first rows, here; send nothing"
    )
    parser.add_argument("--detach", action="store_true", help="return once it is submitted")


def run(args: argparse.Namespace, call: Call) -> object:
    _check_what(args, call)
    from aiaas_magics.submission import follow, plan_code, smoke_code, submit

    request = request_of(args)
    if args.plan:
        return plan_code(lambda: code_of(args, call, strict=False), request)
    code = code_of(args, call)
    if args.smoke:
        return smoke_code(code, request)
    submitted = submit(code, request)
    return submitted if args.detach else follow(submitted)


def request_of(args: argparse.Namespace) -> Request:
    """Raises `InvalidInput` for what no platform would accept."""
    from aiaas_magics.request import Request, early_stop, of_each_worker, seconds

    cpus, gpus = of_each_worker(args.profile, args.cpus_per_worker, args.gpus_per_worker)
    request = Request(
        name=args.name,
        datasets=args.dataset,
        workers=args.workers,
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        params=dict(args.param),
        retries=args.retries,
        priority=args.priority,
        time_limit=seconds(args.time_limit),
        early_stop=early_stop(args.stop_when, args.patience),
    )
    request.check()
    return request


def code_of(args: argparse.Namespace, call: Call, *, strict: bool = True) -> Code:
    """The snapshot of the cell, script, notebook or recipe that the line speaks of.

    A cell that uses variables of the notebook is refused; without `strict` they are only found.
    """
    from dataclasses import replace

    from aiaas_magics import snapshot
    from aiaas_magics.snapshot import captures

    if args.recipe is not None:
        from aiaas_magics.runtime.recipes import find

        recipe = find(args.recipe)
        recipe.check(dict(args.param))
        recipe.check_datasets(args.dataset)
        return snapshot.of_recipe(args.recipe)
    if call.cell is None:
        if args.script.endswith(".ipynb"):
            return snapshot.of_notebook(args.script)
        return snapshot.of_script(args.script, args.arguments)
    code = snapshot.of_cell(call.cell, call.line)
    captured = captures.of_cell(call.cell, call.shell.user_ns)
    if strict:
        captures.refuse(captured)
    return replace(code, captured=tuple(captured))


def _check_what(args: argparse.Namespace, call: Call) -> None:
    """Raise `UsageError` unless it is one thing that is to be trained, and has a name."""
    if args.script is not None and call.cell is not None:
        raise UsageError(
            f"{args.script!r} is no option of train: a run's name has one. "
            f"Write '--name {args.script}'."
            if args.name is None
            else f"{args.script!r} is no option of train. See '%aiaas help train'."
        )
    if args.recipe is not None and (call.cell is not None or args.script is not None):
        raise UsageError(
            "A recipe brings its own code. Write '%aiaas train --recipe NAME …' without a cell or "
            "a script."
        )
    if call.cell is None and args.script is None and args.recipe is None:
        raise UsageError(
            "train needs a cell: write '%%aiaas train --name NAME' as its first line, and below "
            "it the code that defines train(ctx). Or give a file: '%aiaas train SCRIPT.py'."
        )
    if args.arguments and not (args.script or "").endswith(".py"):
        raise UsageError("Only a script takes arguments after --. Give --param NAME=VALUE.")
    if args.name is None and call.cell is None:
        stem = args.recipe or PurePath(args.script).stem
        args.name = re.sub(r"[^a-z0-9-]+", "-", stem.lower()).strip("-") or None
    if args.name is None:
        raise UsageError("The run has no name. Add '--name NAME'.")


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


COMMAND = Command(
    "train",
    "train on the platform's workers",
    add_arguments,
    run,
    cell=True,
    arguments=True,
    examples=(
        "%%aiaas train --name cnn --dataset digits --workers 2 --param lr=0.01\n"
        "def train(ctx):\n    ctx.report(step=1, loss=0.5)",
        "%aiaas train train.py --name cnn --plan",
        "%aiaas train --recipe tabular --name prices --dataset sales --param target=price",
    ),
)
