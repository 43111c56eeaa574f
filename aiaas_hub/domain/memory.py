"""The memory that served models may take: does one more fit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiaas_hub.domain.ports import StagedVersion
from aiaas_hub.domain.records import Deployment
from aiaas_hub.schemas.endpoints import Endpoint, ServingOptions, Sleep
from aiaas_hub.schemas.errors import InvalidInput


def check(
    staged: StagedVersion,
    options: ServingOptions,
    taken: Mapping[tuple[str, int], int],
    budget: int | None,
) -> None:
    """Raise `InvalidInput` if the version would take more than what `taken` leaves of `budget`,
    all in bytes. What it replaces is still loaded then, and counts: a rollback leads there."""
    others = sum(memory for key, memory in taken.items() if key != (staged.model, staged.version))
    if budget is None or staged.memory + others <= budget:
        return
    instances = options.instances or 1
    each = (
        f" in each of {instances} instances, {_size(staged.memory)} together,"
        if instances > 1
        else ""
    )
    fewer = "Publish it with fewer --instances, retire" if instances > 1 else "Retire"
    raise InvalidInput(
        f"The model takes {_size(staged.memory // instances)} of memory{each} and of the "
        f"{_size(budget)} for served models {_size(max(0, budget - others))} are left.",
        remedy=f"{fewer} an endpoint that nobody calls (%aiaas endpoints), or ask the operator "
        "to raise serving_memory_bytes.",
    )


def taken(
    routed: Sequence[tuple[Endpoint, Sequence[Deployment]]], sizes: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Of the bytes of all installed versions, those of versions that do not sleep."""
    asleep = {
        deployment.serving_name
        for endpoint, deployments in routed
        if endpoint.sleep is Sleep.ASLEEP
        for deployment in deployments
    }
    return {key: size for key, size in sizes.items() if key[0] not in asleep}


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
