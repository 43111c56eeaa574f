"""`%%aiaas transform`"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, add_scheduling, completed, count, positive

if TYPE_CHECKING:
    from aiaas_hub.schemas.transforms import TransformSpec
    from aiaas_magics.request import Request
    from aiaas_magics.snapshot import Code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument(
        "--from", dest="source", metavar="D[@V]", help="the dataset whose batches it is given"
    )
    completed(source, "dataset")
    target = parser.add_argument(
        "--to", metavar="D2", help="the dataset that gets the result as a new version"
    )
    completed(target, "dataset")
    parser.add_argument(
        "--batch-format",
        # Written out: schemas bring pydantic along, and verbs are declared at load.
        choices=["pandas", "numpy", "pyarrow"],
        default="pandas",
        help="what a batch is: a DataFrame, a dict of arrays, or an Arrow Table",
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="rows of a batch: 4096")
    parser.add_argument(
        "--split",
        metavar="PART=SHARE,…",
        help="divide the rows by chance: train=0.8,validation=0.1,test=0.1 makes D2-train, …",
    )
    parser.add_argument(
        "--seed", type=count, default=0, metavar="S", help="another one divides otherwise: 0"
    )
    parser.add_argument(
        "--stratify", metavar="COLUMN", help="each value of it in these shares, too"
    )
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="how many workers")
    profile = parser.add_argument(
        "--profile", metavar="P", help="processors and GPUs for each as this profile has them"
    )
    completed(profile, "profile")
    parser.add_argument("--gpus-per-worker", type=float, metavar="N", help="GPUs for each: 0")
    parser.add_argument("--cpus-per-worker", type=float, metavar="N", help="processors for each: 1")
    add_scheduling(parser, "attempts after a failure of the machine")
    first = parser.add_mutually_exclusive_group()
    first.add_argument(
        "--plan", action="store_true", help="show what would be sent and happen; send nothing"
    )
    first.add_argument("--smoke", action="store_true", help="the first batch, here; send nothing")
    parser.add_argument("--detach", action="store_true", help="return once it is submitted")


def run(args: argparse.Namespace, call: Call) -> object:
    if call.cell is None:
        raise UsageError(
            "transform needs a cell: write '%%aiaas transform --from D --to D2' as its first "
            "line, and below it the code that defines transform(batch)."
        )
    if args.source is None:
        raise UsageError("There is no dataset to start from. Add '--from NAME'.")
    if args.to is None:
        raise UsageError("The result has no name. Add '--to NAME'.")
    from aiaas_magics.submission import follow, plan_code, smoke_code, submit

    request, spec = request_of(args), spec_of(args)
    if args.plan:
        return plan_code(lambda: code_of(call, strict=False), request, transform=spec)
    code = code_of(call)
    if args.smoke:
        return smoke_code(code, request, transform=spec)
    submitted = submit(code, request, transform=spec)
    return submitted if args.detach else follow(submitted)


def request_of(args: argparse.Namespace) -> Request:
    """Raises `InvalidInput` for what no platform would accept."""
    from aiaas_hub.schemas.names import check_name
    from aiaas_magics.request import Request, of_each_worker, seconds

    if "/" in args.to or "@" in args.to:
        raise UsageError(
            f"--to {args.to} is not a name: it is yours, and its versions are counted for you."
        )
    cpus, gpus = of_each_worker(args.profile, args.cpus_per_worker, args.gpus_per_worker)
    request = Request(
        name=check_name(args.to),
        datasets=[args.source],
        workers=args.workers,
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        retries=args.retries,
        priority=args.priority,
        time_limit=seconds(args.time_limit),
    )
    request.check()
    return request


def spec_of(args: argparse.Namespace) -> TransformSpec:
    """Raises `InvalidInput` for a split that cannot be meant."""
    from pydantic import ValidationError

    from aiaas_hub.schemas.errors import InvalidInput
    from aiaas_hub.schemas.transforms import BATCH_ROWS, TransformSpec

    try:
        return TransformSpec(
            target=args.to,
            batch_format=args.batch_format,
            batch_size=args.batch_size or BATCH_ROWS,
            split=shares(args.split),
            seed=args.seed,
            stratify=args.stratify,
        )
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ").rstrip(".")
        where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise InvalidInput(
            f"This transform cannot be meant: {where}{said}.",
            remedy="Write such as --split train=0.8,validation=0.1,test=0.1 --seed 1 "
            "--stratify label.",
        ) from None


def shares(text: str | None) -> dict[str, float]:
    """`train=0.8,test=0.2`; shares may be percentages, `train=80%,test=20%`."""
    found: dict[str, float] = {}
    for piece in (text or "").split(","):
        name, equals, share = (part.strip() for part in piece.partition("="))
        if not piece.strip():
            continue
        try:
            value = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
        except ValueError:
            value = None
        if not name or not equals or value is None:
            raise UsageError(
                f"{piece.strip()!r} is not PART=SHARE. Write --split "
                "train=0.8,validation=0.1,test=0.1."
            )
        if name in found:
            raise UsageError(f"--split has the part {name!r} twice. Name each once.")
        found[name] = value
    return found


def code_of(call: Call, *, strict: bool = True) -> Code:
    """The snapshot of the cell. One that uses variables of the notebook is refused; without
    `strict` they are only found."""
    from dataclasses import replace

    from aiaas_magics import snapshot
    from aiaas_magics.snapshot import captures

    assert call.cell is not None  # noqa: S101 - for the type checker; checked before
    code = snapshot.of_cell(call.cell, call.line, "transform")
    captured = captures.of_cell(call.cell, call.shell.user_ns)
    if strict:
        captures.refuse(captured)
    return replace(code, captured=tuple(captured))


COMMAND = Command(
    "transform",
    "make a dataset of another with the code of this cell",
    add_arguments,
    run,
    cell=True,
    examples=(
        "%%aiaas transform --from sales --to cheap\n"
        "def transform(batch):\n"
        "    return batch[batch.price < 10]",
        "%%aiaas transform --from sales --to sales --split train=0.8,test=0.2\n"
        "def transform(batch):\n"
        "    return batch.dropna()",
    ),
)
