"""What a run's workers cost: each counts as the cheapest profile that holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aiaas_hub.domain.usage import Rate
from aiaas_hub.schemas.runs import Resources
from aiaas_hub.spawner.profiles import Profile


def rate(profiles: Sequence[Profile], resources: Resources, concurrency: int) -> Rate:
    """The price per hour of `concurrency` groups of workers at a time.

    A worker for which no profile is large enough counts as several of the one of which the fewest
    are needed. Without a profile with GPUs, a worker with GPUs costs nothing: nobody said what.
    """
    cpus, gpus = resources.cpus_per_worker, resources.gpus_per_worker

    def pieces(profile: Profile) -> float:
        if gpus and not profile.gpus:
            return math.inf
        needed = [math.ceil(cpus / profile.cpus - 1e-9)]
        if gpus:
            needed.append(math.ceil(gpus / profile.gpus - 1e-9))
        return max(needed)

    fitting = [profile for profile in profiles if pieces(profile) < math.inf]
    if not fitting:
        return Rate("", 0.0)
    best = min(
        fitting, key=lambda one: (pieces(one) > 1, pieces(one) * one.price_per_hour, one.cpus)
    )
    count = resources.workers * concurrency
    return Rate(best.slug, count * pieces(best) * best.price_per_hour)
