"""What a run is asked to be, beside its code."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pydantic import TypeAdapter, ValidationError

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.datasets import parse_dataset_reference
from aiaas_hub.schemas.errors import InvalidInput, NotFound
from aiaas_hub.schemas.names import check_name

if TYPE_CHECKING:
    from aiaas_magics.dataset import Dataset

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 24 * 3600}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_CONDITION = re.compile(r"\s*([^<>=:\s]+)\s*(?:(<=?|>=?)\s*(\S+)|:(min|max))?\s*")
_NEVER = 1_000_000
"""The largest patience there is."""


@dataclass(frozen=True)
class Request:
    name: str
    datasets: Sequence[str] = ()
    workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    params: Mapping[str, wire.ParamValue] = field(default_factory=dict)
    retries: int = 0
    priority: str = "normal"
    time_limit: float | None = None
    """Seconds."""
    early_stop: wire.EarlyStop | None = None

    def check(self) -> wire.Resources:
        """The resources; raises `InvalidInput` for what no platform would accept."""
        if not isinstance(self.name, str):
            raise InvalidInput(f"name is a {type(self.name).__name__}.", remedy="Give a text.")
        check_name(self.name)
        for dataset in self.datasets:
            parse_dataset_reference(dataset)
        for name, value in self.params.items():
            check_param(name, value)
        if not isinstance(self.retries, int) or not 0 <= self.retries <= 100:
            raise InvalidInput(f"retries is {self.retries}.", remedy="Give 0 to 100.")
        if self.priority not in list(wire.Priority):
            raise InvalidInput(
                f"{self.priority!r} is no priority.", remedy="Give low, normal or high."
            )
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


def of_each_worker(
    profile: str | None, cpus: float | None, gpus: float | None
) -> tuple[float, float]:
    """Processors and GPUs of each worker: what is given, else the profile's, else one and none.

    Raises `NotFound` for a profile that is not open to the user.
    """
    if profile is None:
        return 1 if cpus is None else cpus, 0 if gpus is None else gpus
    from aiaas_magics.client import current_client

    known = {one.name: one for one in current_client().profiles()}
    if profile not in known:
        there = f"There are {', '.join(known)}." if known else "This platform has none."
        raise NotFound(
            f"There is no profile {profile!r}.",
            remedy=f"{there} Or give --cpus-per-worker and --gpus-per-worker.",
        )
    found = known[profile]
    return found.cpus if cpus is None else cpus, found.gpus if gpus is None else gpus


class Options(TypedDict, total=False):
    """What a submission from Python may say; `aiaas.train` has the defaults."""

    name: str | None
    workers: int
    dataset: str | Dataset | Sequence[str | Dataset] | None
    params: Mapping[str, wire.ParamValue] | None
    retries: int
    profile: str | None
    cpus_per_worker: float | None
    gpus_per_worker: float | None
    priority: str
    time_limit: str | float | None
    stop_when: str | None
    patience: int | None


def of_function(function: object, **options: Unpack[Options]) -> Request:
    """The request for a function, by whose name the run is called where none is given."""
    name, dataset = options.get("name"), options.get("dataset")
    cpus, gpus = of_each_worker(
        options.get("profile"), options.get("cpus_per_worker"), options.get("gpus_per_worker")
    )
    request = Request(
        name=getattr(function, "__name__", "train").strip("_<>") if name is None else name,
        datasets=_references(dataset),
        workers=options.get("workers", 1),
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        params=checked_params(options.get("params")),
        retries=options.get("retries", 0),
        priority=options.get("priority", "normal"),
        time_limit=seconds(options.get("time_limit")),
        early_stop=early_stop(options.get("stop_when"), options.get("patience")),
    )
    request.check()
    return request


def _references(given: object) -> list[str]:
    """Names of datasets, of which each may be given as `Dataset`; then it is that very version."""
    from aiaas_magics.dataset import Dataset

    if given is None:
        return []
    references = []
    for one in given if isinstance(given, list | tuple) else [given]:
        if isinstance(one, Dataset):
            one = f"{one.owner}/{one.name}@{one.version}"
        if not isinstance(one, str):
            raise InvalidInput(
                f"dataset is a {type(one).__name__}, which is no stored dataset.",
                remedy="Store it, aiaas.datasets.put('NAME', df), and give dataset='NAME'.",
            )
        references.append(one)
    return references


def checked_params(given: object) -> dict[str, wire.ParamValue]:
    """Parameters, numpy's numbers among them as Python's own; raises `InvalidInput`."""
    if not isinstance(given, Mapping | None):
        raise InvalidInput(
            f"params is a {type(given).__name__}.", remedy="Give a dict: params={'lr': 0.1}."
        )
    params = {name: plain(value) for name, value in (given or {}).items()}
    for name, value in params.items():
        check_param(name, value)
    return params


def plain(value: Any) -> Any:
    """What Python itself has for a number or an array of numpy; anything else as it is."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        return value.tolist()
    return value


def check_param(name: str, value: object) -> None:
    """Raise `InvalidInput` for what a parameter cannot be."""
    if not isinstance(value, str | int | float | bool | None):
        raise InvalidInput(
            f"Parameter {name!r} is a {type(value).__name__}.",
            remedy="Parameters are texts, numbers, booleans or None; pass data as a dataset.",
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


def seconds(limit: str | float | None) -> float | None:
    """A time limit: seconds, or a text such as `90s`, `30m`, `2h`, `1d`."""
    if limit is None:
        return None
    text = str(limit).strip().lower()
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise InvalidInput(
            f"{limit!r} is not a time limit.", remedy="Give seconds, or a text such as 30m or 2h."
        )
    return float(match[1]) * _UNITS[match[2]]


def early_stop(stop_when: str | None, patience: int | None) -> wire.EarlyStop | None:
    """From `accuracy>0.99` (reached), `loss` or `accuracy:max` (no better for `patience` reports),
    or both: `loss<0.1` with a patience."""
    if stop_when is None:
        if patience is not None:
            raise InvalidInput(
                "--patience needs to know of which metric.",
                remedy="Add '--stop-when loss' or '--stop-when accuracy:max'.",
            )
        return None
    match = _CONDITION.fullmatch(str(stop_when))
    try:
        if match is None:
            raise ValueError
        metric, sign, value, mode = match.groups()
        threshold = float(value) if sign else None
        if patience is None:
            # Once reached is what was asked for; how long it takes was not.
            patience = _NEVER if sign else 10
        return wire.EarlyStop.model_validate(
            {
                "metric": metric,
                "mode": mode or ("max" if sign and sign.startswith(">") else "min"),
                "patience": patience,
                "threshold": threshold,
            }
        )
    except ValueError:  # pydantic's own is one
        raise InvalidInput(
            f"{stop_when!r} with a patience of {patience} is no condition to stop at.",
            remedy="Write --stop-when 'accuracy>0.99', or --stop-when loss --patience 5.",
        ) from None
