"""Submitting training code: it becomes a snapshot, then a run; or is planned, or smoked, first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from pydantic import ValidationError

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_magics import __version__, environment, snapshot, tracking
from aiaas_magics.client import current_client
from aiaas_magics.errors import invalid
from aiaas_magics.receipt import Receipt
from aiaas_magics.request import Options, Request, of_function
from aiaas_magics.run import Run
from aiaas_magics.smoke_report import Smoke
from aiaas_magics.smoke_report import smoke as smoke_code
from aiaas_magics.snapshot import captures
from aiaas_magics.snapshot.captures import Capture
from aiaas_magics.watching import watch

if TYPE_CHECKING:
    from aiaas_hub.schemas.transforms import TransformSpec
    from aiaas_magics.dataset import Dataset

__all__ = [
    "Request",
    "follow",
    "plan",
    "plan_code",
    "say_detached",
    "smoke",
    "smoke_code",
    "submit",
    "train",
]

Maker = Callable[[], snapshot.Code]
"""Makes the snapshot, or raises `InvalidInput`."""


def submit(
    code: snapshot.Code,
    request: Request,
    *,
    sweep: wire.SweepSpec | None = None,
    transform: TransformSpec | None = None,
) -> Run:
    """Upload the snapshot and create the run. Raises `InvalidInput` before anything is sent."""
    captures.refuse(list(code.captured))
    create = _described(request, code.described, sweep, transform)
    client = current_client()
    there = client.runs.plan(create).environment
    if there is not None:
        environment.check(there)
    _say(_notes(code, there))
    if create.kind is wire.RunKind.TRAIN:
        _say(_unheard(code, request))
    client.upload(code.content)
    try:
        return Run(client, client.runs.create(create))
    except KeyboardInterrupt:
        _say(
            [
                "Interrupted while it was submitted: whether the run is there is not known here. "
                "'%aiaas runs' shows it, and '%aiaas cancel ID' stops it."
            ]
        )
        raise


def plan_code(
    make: Maker,
    request: Request,
    captured: Sequence[Capture] = (),
    sweep: wire.SweepSpec | None = None,
    transform: TransformSpec | None = None,
) -> Receipt:
    """What a submission would be; what forbids it is told in the receipt, and not raised."""
    problems = []
    code: snapshot.Code | None = None
    plan: wire.RunPlan | None = None
    try:
        code = make()
    except InvalidInput as error:
        problems.append(str(error))
    captured = captured or (code.captured if code else ())
    try:
        create = _described(request, code.described if code else _no_code, sweep, transform)
        plan = current_client().runs.plan(create)
        if plan.environment is not None:
            environment.check(plan.environment)
    except AiaasError as error:
        problems.append(str(error))
    said = " ".join(problems)
    for one in captured:
        if one.severity == "error" and one.problem not in said:
            problems.append(f"{one.problem} {one.remedy}")
    notes = [*code.notes] if code else []
    if code and sweep is None and transform is None:
        notes += _unheard(code, request)
    return Receipt(request, code, captured, plan, problems, notes, sweep, transform)


def train(
    fn: Callable[..., object],
    *,
    name: str | None = None,
    workers: int = 1,
    dataset: str | Dataset | Sequence[str | Dataset] | None = None,
    params: Mapping[str, wire.ParamValue] | None = None,
    retries: int = 0,
    profile: str | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    priority: str = "normal",
    time_limit: str | float | None = None,
    stop_when: str | None = None,
    patience: int | None = None,
    detach: bool = False,
) -> Run:
    """Run `fn(ctx)` on the platform's workers, and show it until it is over.

    The function is sent by value, with what it uses from the notebook and the modules beside it.
    `name` is the function's own where none is given. Each worker has one processor and no GPU, or
    what the `profile` of this name has, or as many as are given. `priority` is low, normal or high
    among my own runs; `time_limit` is in seconds, or a text such as `2h`; `stop_when` is
    `accuracy>0.99`,
    `loss` or `accuracy:max`, and `patience` the number of reports without a better value, for
    code that asks `ctx.should_stop`. With `detach=True` the call returns once it is submitted.

    Raises `RunFailed` if the watched run ends without success, `InvalidInput` before anything is
    sent if it cannot be meant. An interrupt leaves the run alive and returns it.
    """
    request = of_function(
        fn,
        name=name,
        workers=workers,
        dataset=dataset,
        params=params,
        retries=retries,
        profile=profile,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        priority=priority,
        time_limit=time_limit,
        stop_when=stop_when,
        patience=patience,
    )
    run = submit(snapshot.of_function(fn), request)
    return run if detach else follow(run)


def plan(fn: Callable[..., object], **options: Unpack[Options]) -> Receipt:
    """What `train` with the same options would send and do; nothing is sent but the question.

    The receipt names what the function captures with its size, what cannot be sent and why,
    files, the difference between environments, datasets' versions, the place in the queue and
    the quota that is left.
    """
    captured = captures.of_function(fn) if callable(fn) else []
    return plan_code(lambda: snapshot.of_function(fn), of_function(fn, **options), captured)


def smoke(fn: Callable[..., object], **options: Unpack[Options]) -> Smoke:
    """The first steps of `fn(ctx)`, here, on the first rows of the datasets, with the very bytes
    that `train` with the same options would send.

    Raises `SmokeFailed` with the user's own line if they fail; nothing is submitted.
    """
    request = of_function(fn, **options)
    return smoke_code(snapshot.of_function(fn), request)


def follow(run: Run, *, worker: int | None = None) -> Run:
    """Watch a run to its end and raise `RunFailed` if that is not success; an interrupt detaches
    and says how to go on. `worker` is whose log to show, where not all of them."""
    try:
        watch(run, worker=worker)
    except KeyboardInterrupt:
        say_detached(run)
        return run
    exported = tracking.export_if_wanted(run)
    if exported is not None:
        _say([exported])
    return run.raise_for_failure()


def say_detached(run: Run) -> None:
    sys.stdout.write(
        f"Detached: run {run.id} goes on. Watch it again with '%aiaas attach {run.id}'; stop it "
        f"with '%aiaas cancel {run.id}'.\n"
    )


def _described(
    request: Request,
    describe: Callable[[], wire.Snapshot],
    sweep: wire.SweepSpec | None = None,
    transform: TransformSpec | None = None,
) -> wire.RunCreate:
    resources = request.check()
    kind = wire.RunKind.TRAIN if sweep is None else wire.RunKind.SWEEP
    try:
        return wire.RunCreate.model_validate(
            {
                "name": request.name,
                "kind": kind if transform is None else wire.RunKind.TRANSFORM,
                "snapshot": describe(),
                "datasets": list(request.datasets),
                "params": dict(request.params),
                "resources": resources,
                "retries": request.retries,
                "priority": request.priority,
                "time_limit": request.time_limit,
                "early_stop": request.early_stop,
                "sweep": sweep,
                "transform": transform,
            }
        )
    except ValidationError as error:
        raise invalid(error) from error


def _no_code() -> wire.Snapshot:
    """For a question about all else."""
    return wire.Snapshot(digest="0" * 64, python=snapshot.PYTHON, client=__version__)


def _notes(code: snapshot.Code, there: wire.Environment | None) -> list[str]:
    notes = [*code.notes]
    notes += [f"{one.problem} {one.remedy}" for one in code.captured if one.severity == "warning"]
    notes += [f"The code imports {name}, which is not installed here." for name in code.missing]
    if there is not None:
        found = environment.differences(code.packages, there)
        notes += [f"{difference}." for difference in found if difference.matters]
    data = [file for file in code.left_out if "dataset" in file.why]
    if data:
        names = ", ".join(file.name for file in data[:3])
        notes.append(
            f"Left out as data: {names}{', …' if len(data) > 3 else ''}. Pass it as a dataset, or "
            "bring it back with '!NAME' in .aiaasignore."
        )
    return notes


def _unheard(code: snapshot.Code, request: Request) -> list[str]:
    """What is asked of code that never looks whether it should stop."""
    asked = request.early_stop is not None or request.time_limit is not None
    if not asked or code.mentions("should_stop"):
        return []
    look = "Write 'if ctx.should_stop: break' in the training loop."
    if request.early_stop is not None:
        return [f"Early stop needs the loop to look, and this code never does. {look}"]
    return [
        "At its time limit a run that looks can save and return; this code never looks, so it "
        f"is ended from outside. {look}"
    ]


def _say(notes: Sequence[str]) -> None:
    with suppress(OSError):
        sys.stdout.write("".join(f"Note: {note}\n" for note in notes))
