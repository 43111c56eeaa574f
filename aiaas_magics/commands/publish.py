"""`%aiaas publish`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed, duration, percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(
        parser.add_argument("name", metavar="ENDPOINT", help="what to call the endpoint"),
        "endpoint",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    completed(source.add_argument("--run", metavar="ID", help="the model of this run"), "run")
    completed(source.add_argument("--model", metavar="NAME[@V]", help="this model"), "model")
    parser.add_argument("--why", default="", metavar="TEXT", help="for the history")
    parser.add_argument(
        "--canary",
        type=percent,
        metavar="PERCENT",
        help="its share of the requests until you promote it or roll it back",
    )
    parser.add_argument(
        "--shadow",
        type=copied,
        nargs="?",
        const=100,
        metavar="PERCENT",
        help="it gets a copy of the requests (of all) and answers nobody",
    )
    parser.add_argument(
        "--sticky",
        action="store_true",
        help="of a canary: the same caller always comes to the same version",
    )
    parser.add_argument(
        "--bake",
        type=float,
        metavar="SECONDS",
        help="then its numbers decide; its share is a tenth unless --canary says otherwise",
    )
    for limit, what in (
        ("max-error-rate", "most of its requests that may fail beyond the former's (0.01)"),
        ("max-slowdown", "most times the former's p95 that its own may be (2)"),
        ("max-disagreement", "most held-out rows that it may answer otherwise (0.25)"),
    ):
        parser.add_argument(f"--{limit}", type=float, metavar="X", help=f"of a bake: {what}")

    parser.add_argument(
        "--instances",
        type=int,
        metavar="N",
        help="copies of the model that infer at the same time, each in its own memory (1)",
    )
    parser.add_argument("--max-batch", type=int, metavar="N", help="most rows of one request (256)")
    parser.add_argument(
        "--warm-up",
        action="store_true",
        help="let every instance infer held-out rows before the first request",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="a request that takes longer is answered with HTTP 504 (120)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp16", "int8"),
        help="fewer bits, as long as the held-out rows are answered alike",
    )
    parser.add_argument(
        "--batch-delay",
        type=delay,
        metavar="MS",
        help="milliseconds that a request waits for others to share a run with (0), or off",
    )
    parser.add_argument(
        "--idle",
        type=duration,
        metavar="TIME",
        help="so long without a call, as in 30m, and it is unloaded until the next one",
    )
    parser.add_argument(
        "--plan", action="store_true", help="publish nothing: say what would happen"
    )


def copied(text: str) -> int:
    """Type of a shadow's part of the requests, which may be none of its own: 1 to 100."""
    part = percent(text)
    if not part:
        raise argparse.ArgumentTypeError("a copy of no requests is no shadow; give 1 to 100")
    return part


def delay(text: str) -> float | str:
    """Type of a batch's delay: milliseconds, or `off`."""
    if text == "off":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither milliseconds nor off") from None


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.publishing import (
        canary_plan,
        plan_publication,
        publish_model,
        publish_run,
        serving_options,
    )

    limits = {
        name: value
        for name in ("max_error_rate", "max_slowdown", "max_disagreement")
        if (value := getattr(args, name)) is not None
    }
    plan = canary_plan(args.canary, args.bake, limits, args.shadow, args.sticky)
    options = serving_options(
        args.instances,
        args.max_batch,
        args.warm_up,
        args.timeout,
        args.precision,
        args.idle,
        args.batch_delay,
    )
    if args.plan:
        return plan_publication(args.run, args.model, args.name, plan, options)
    if args.run is not None:
        return publish_run(args.run, args.name, plan, options, args.why)
    return publish_model(args.model, args.name, plan, options, args.why)


COMMAND = Command(
    "publish",
    "serve a run's model at an endpoint",
    add_arguments,
    run,
    examples=(
        "%aiaas publish digits --run run-1234567890",
        "%aiaas publish digits --model cnn@champion --canary 10",
        "%aiaas publish digits --model cnn --canary 10 --plan",
        "%aiaas publish digits --model cnn --shadow",
        "%aiaas publish digits --model cnn --idle 30m",
        "%aiaas publish digits --model cnn --bake 600 --max-slowdown 1.5 --why 'trained anew'",
    ),
)
