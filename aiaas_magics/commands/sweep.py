"""`%%aiaas sweep`"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, add_scheduling, completed, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="N", help="what to call the sweep and its model")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        type=typed,
        metavar="k=v",
        help="what is tried: lr=log:1e-4:1e-1, dropout=uniform:0:0.5, layers=int:1:4, "
        "optimizer=choice:adam,sgd; any other value stays; may be given again",
    )
    parser.add_argument("--metric", metavar="M", help="what ctx.report() says and trials are for")
    parser.add_argument("--mode", choices=["min", "max"], help="which way the metric is better")
    parser.add_argument(
        "--trials", type=positive, metavar="N", help="how many; a grid knows by itself"
    )
    parser.add_argument(
        "--search",
        choices=["random", "grid", "bayesian"],
        default="random",
        help="by chance, all combinations, or learning from the trials before",
    )
    parser.add_argument(
        "--scheduler",
        choices=["none", "asha"],
        default="none",
        help="asha stops trials that lag behind at their reports of the metric",
    )
    parser.add_argument(
        "--concurrency", type=positive, default=2, metavar="N", help="trials at the same time"
    )
    dataset = parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="D[@V]",
        help="a dataset for ctx.dataset(); may be given again",
    )
    completed(dataset, "dataset")
    # Known, so that it is refused in a sentence that says what to do instead.
    parser.add_argument("--workers", type=positive, default=1, help=argparse.SUPPRESS)
    profile = parser.add_argument(
        "--profile", metavar="P", help="processors and GPUs for each trial as this profile has them"
    )
    completed(profile, "profile")
    parser.add_argument("--gpus-per-worker", type=float, metavar="N", help="GPUs for each trial: 0")
    parser.add_argument(
        "--cpus-per-worker", type=float, metavar="N", help="processors for each trial: 1"
    )
    add_scheduling(parser, "attempts of a trial after a failure, from its last ctx.checkpoint()")
    parser.add_argument(
        "--plan", action="store_true", help="show what would be sent and happen; send nothing"
    )
    parser.add_argument("--detach", action="store_true", help="return once it is submitted")
    # A sweep is of a cell; train's code may be others, too.
    parser.set_defaults(script=None, recipe=None, arguments=[])


def run(args: argparse.Namespace, call: Call) -> object:
    if call.cell is None:
        raise UsageError(
            "sweep needs a cell: write '%%aiaas sweep --name NAME --param lr=log:1e-4:1e-1 "
            "--trials 10 --metric accuracy' as its first line, and below it the code that "
            "defines train(ctx)."
        )
    for option, example in (("name", "NAME"), ("metric", "accuracy")):
        if getattr(args, option) is None:
            raise UsageError(f"The sweep has no {option}. Add '--{option} {example}'.")
    names = [name for name, _ in args.param]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"--param {twice} is given twice. To try several values write "
            f"'--param {twice}=choice:A,B'."
        )
    from aiaas_magics import space
    from aiaas_magics.commands.train import code_of
    from aiaas_magics.request import Request, of_each_worker, seconds
    from aiaas_magics.submission import plan_code
    from aiaas_magics.sweeping import submit

    fixed, drawn = space.split(dict(args.param), typed=True)
    spec = space.spec(
        drawn,
        metric=args.metric,
        trials=args.trials,
        mode=args.mode,
        search=args.search,
        scheduler=args.scheduler,
        concurrency=args.concurrency,
    )
    cpus, gpus = of_each_worker(args.profile, args.cpus_per_worker, args.gpus_per_worker)
    request = Request(
        name=args.name,
        datasets=args.dataset,
        workers=args.workers,
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        params=fixed,
        retries=args.retries,
        priority=args.priority,
        time_limit=seconds(args.time_limit),
    )
    request.check()
    if args.plan:
        return plan_code(lambda: code_of(args, call, strict=False), request, sweep=spec)
    return submit(code_of(args, call), request, spec, detach=args.detach)


def typed(text: str) -> tuple[str, str]:
    """`k=v`; what `v` means is read with all of them."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value


COMMAND = Command(
    "sweep",
    "train with different parameters and keep the best",
    add_arguments,
    run,
    cell=True,
    examples=(
        "%%aiaas sweep --name cnn --param lr=log:1e-4:1e-1 --trials 8 --metric loss\n"
        "def train(ctx):\n    ctx.report(step=1, loss=ctx.params['lr'])",
    ),
)
