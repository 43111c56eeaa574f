"""Submitting training code: a cell or a function becomes a snapshot, then a run."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import check_name, parse_reference
from aiaas_magics import __version__, snapshot
from aiaas_magics.client import current_client
from aiaas_magics.errors import invalid
from aiaas_magics.run import Run
from aiaas_magics.watching import watch


@dataclass(frozen=True)
class Request:
    """What a run is asked to be, beside its code."""

    name: str
    datasets: Sequence[str] = ()
    workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    params: Mapping[str, wire.ParamValue] = field(default_factory=dict)
    retries: int = 0

    def check(self) -> wire.Resources:
        """The resources; raises `InvalidInput` for what no platform would accept."""
        check_name(self.name)
        for dataset in self.datasets:
            parse_reference(dataset)
        for name, value in self.params.items():
            if not isinstance(value, str | int | float | bool | None):
                raise InvalidInput(
                    f"Parameter {name!r} is a {type(value).__name__}.",
                    remedy="Parameters are texts, numbers, booleans or None; pass data as a "
                    "dataset.",
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidInput(
                    f"Parameter {name!r} is {value}, which is not a finite number.",
                    remedy="Give a finite number, or leave the parameter out and write "
                    f"ctx.params.get({name!r}, …) in the code.",
                )
            if isinstance(value, int) and abs(value) > wire.MAX_INTEGER:
                # As a number of the wire it would silently become another one.
                raise InvalidInput(
                    f"Parameter {name!r} is larger than {wire.MAX_INTEGER:,}.",
                    remedy=f"Give it as a text, and write int(ctx.params[{name!r}]) in the code.",
                )
            try:
                TypeAdapter(wire.ParamValue).validate_python(value)
            except ValidationError:
                raise InvalidInput(
                    f"Parameter {name!r} is longer than a parameter may be.",
                    remedy="Pass data as a dataset, and texts in the code.",
                ) from None
        if not 0 <= self.retries <= 100:
            raise InvalidInput(f"retries is {self.retries}.", remedy="Give 0 to 100.")
        try:
            return wire.Resources(
                workers=self.workers,
                cpus_per_worker=self.cpus_per_worker,
                gpus_per_worker=self.gpus_per_worker,
            )
        except ValidationError as error:
            first = error.errors()[0]
            option = str(first["loc"][0]).replace("_", "-")
            raise InvalidInput(
                f"--{option} cannot be {first['input']!r}: {first['msg'].lower()}.",
                remedy="Give a number that a machine can have.",
            ) from None


def submit(code: snapshot.Code, request: Request) -> Run:
    """Upload the snapshot and create the run. Raises `InvalidInput` before anything is sent."""
    create = _described(code, request)
    client = current_client()
    client.upload(code.content)
    return Run(client, client.runs.create(create))


def _described(code: snapshot.Code, request: Request) -> wire.RunCreate:
    resources = request.check()
    try:
        return wire.RunCreate(
            name=request.name,
            snapshot=wire.Snapshot(
                digest=hashlib.sha256(code.content).hexdigest(),
                entry=code.entry,
                source=code.source,
                python=snapshot.PYTHON,
                client=__version__,
            ),
            datasets=list(request.datasets),
            params=dict(request.params),
            resources=resources,
            retries=request.retries,
        )
    except ValidationError as error:
        raise invalid(error) from error


def train(
    fn: Callable[..., object],
    *,
    name: str | None = None,
    workers: int = 1,
    dataset: str | Sequence[str] | None = None,
    params: Mapping[str, wire.ParamValue] | None = None,
    retries: int = 0,
    cpus_per_worker: float = 1,
    gpus_per_worker: float = 0,
    detach: bool = False,
) -> Run:
    """Run `fn(ctx)` on the platform's workers, and show it until it is over.

    The function is sent by value, with what it uses from the notebook. `name` is the function's
    own where none is given. With `detach=True` the call returns once the run is submitted.

    Raises `RunFailed` if the watched run ends without success, `InvalidInput` before anything is
    sent if it cannot be meant. An interrupt leaves the run alive and returns it.
    """
    code_name = getattr(fn, "__name__", "train").strip("_<>")
    request = Request(
        name=code_name if name is None else name,
        datasets=[dataset] if isinstance(dataset, str) else list(dataset or ()),
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        params=dict(params or {}),
        retries=retries,
    )
    request.check()
    run = submit(snapshot.of_function(fn), request)
    return run if detach else follow(run)


def follow(run: Run) -> Run:
    """Watch a run to its end and raise `RunFailed` if that is not success; an interrupt detaches
    and says how to go on."""
    try:
        watch(run)
    except KeyboardInterrupt:
        say_detached(run)
        return run
    return run.raise_for_failure()


def say_detached(run: Run) -> None:
    sys.stdout.write(
        f"Detached: run {run.id} goes on. Watch it again with '%aiaas attach {run.id}'; stop it "
        f"with '%aiaas cancel {run.id}'.\n"
    )
