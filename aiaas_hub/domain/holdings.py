"""What runs hold of what there is: users' and the platform's limits, processors, GPUs. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from aiaas_hub.domain.ports import Capacity
from aiaas_hub.schemas.runs import Priority, Resources

UNLIMITED = math.inf
TINY = 1e-6
"""Tenths of a CPU do not add up exactly."""
_NAMED = 3
"""So many runs are named in a sentence."""


@dataclass(frozen=True)
class RunLimits:
    """What runs that are started and not over may hold."""

    runs: float = UNLIMITED
    workers: float = UNLIMITED
    gpus: float = UNLIMITED


NO_LIMITS = RunLimits()


@dataclass(frozen=True)
class Contender:
    """A run that holds resources or waits for them."""

    id: str
    owner: str
    order: int
    """Of submission: the newest has the highest."""
    started: bool
    reason: str
    """What was last said of it."""
    since: datetime
    """When it was submitted."""
    priority: Priority
    resources: Resources
    concurrency: int = 1
    """A sweep's trials at a time, each of which takes `resources`."""
    name: str = ""
    begun: datetime | None = None
    """When its first worker called `train`."""
    time_limit: float | None = None
    """Seconds from then."""


class Share(Enum):
    """What runs hold, and of which there is only so much."""

    OWN_RUNS = auto()
    OWN_WORKERS = auto()
    OWN_GPUS = auto()
    ALL_RUNS = auto()
    ALL_WORKERS = auto()
    ALL_GPUS = auto()
    CPUS = auto()
    GPUS = auto()


OWN = frozenset({Share.OWN_RUNS, Share.OWN_WORKERS, Share.OWN_GPUS})
RUNS = frozenset({Share.OWN_RUNS, Share.ALL_RUNS})
_UNITS = {
    Share.OWN_RUNS: "run",
    Share.ALL_RUNS: "run",
    Share.OWN_WORKERS: "worker",
    Share.ALL_WORKERS: "worker",
    Share.OWN_GPUS: "GPU",
    Share.ALL_GPUS: "GPU",
    Share.CPUS: "CPU",
    Share.GPUS: "GPU",
}


def needs(resources: Resources, concurrency: int) -> dict[Share, float]:
    """What a run holds from its start to its end."""
    workers = resources.workers * concurrency
    gpus = workers * resources.gpus_per_worker
    return {
        Share.OWN_RUNS: 1,
        Share.OWN_WORKERS: workers,
        Share.OWN_GPUS: gpus,
        Share.ALL_RUNS: 1,
        Share.ALL_WORKERS: workers,
        Share.ALL_GPUS: gpus,
        Share.CPUS: workers * resources.cpus_per_worker,
        Share.GPUS: gpus,
    }


class Holdings:
    """What there is, who holds it, and what is kept for those who have waited longest."""

    def __init__(
        self, in_all: RunLimits, of_user: Callable[[str], RunLimits], capacity: Capacity
    ) -> None:
        self._of_user = of_user
        self._own: dict[str, RunLimits] = {}
        self._totals: dict[Share, float] = {
            Share.ALL_RUNS: in_all.runs,
            Share.ALL_WORKERS: in_all.workers,
            Share.ALL_GPUS: in_all.gpus,
            Share.CPUS: capacity.cpus,
            Share.GPUS: capacity.gpus,
        }
        self._holders: list[Contender] = []
        self._held: defaultdict[tuple[Share, str], float] = defaultdict(float)
        self._kept: defaultdict[tuple[Share, str], float] = defaultdict(float)

    def take(self, run: Contender) -> None:
        self._holders.append(run)
        for share, amount in needs(run.resources, run.concurrency).items():
            self._held[_account(share, run.owner)] += amount

    def keep(self, run: Contender, shares: Iterable[Share]) -> None:
        """Give to nobody else what is free and this run needs."""
        need = needs(run.resources, run.concurrency)
        for share in shares:
            self._kept[_account(share, run.owner)] += min(need[share], self.free(share, run.owner))

    def free(self, share: Share, owner: str) -> float:
        account = _account(share, owner)
        return max(self._total(share, owner) - self._held[account] - self._kept[account], 0)

    def _total(self, share: Share, owner: str) -> float:
        if share not in OWN:
            return self._totals[share]
        if owner not in self._own:
            self._own[owner] = self._of_user(owner)
        own = self._own[owner]
        return {
            Share.OWN_RUNS: own.runs,
            Share.OWN_WORKERS: own.workers,
            Share.OWN_GPUS: own.gpus,
        }[share]

    def lacks(self, owner: str, need: Mapping[Share, float]) -> Share | None:
        """The first share of which there is not enough."""
        for share, amount in need.items():
            if amount > 0 and amount > self.free(share, owner) + TINY:
                return share
        return None

    def could_ever(self, run: Contender) -> bool:
        need = needs(run.resources, run.concurrency)
        return all(amount <= self._total(share, run.owner) + TINY for share, amount in need.items())

    def workers(self, owner: str) -> float:
        return self._held[_account(Share.OWN_WORKERS, owner)]

    def sentence(self, run: Contender, share: Share) -> str:
        """What the run waits for. Other users' runs are counted and never named."""
        total = self._total(share, run.owner)
        need = needs(run.resources, run.concurrency)[share]
        if need > total + TINY:
            whose = "you may have" if share in OWN else "the platform has"
            return f"needs {amount_of(need, share)}, and {whose} {number(total)} in all"
        if share is Share.OWN_RUNS:
            return f"waits for one of your {number(total)} runs to end"
        if share is Share.ALL_RUNS:
            return f"waits for one of {number(total)} runs to end"
        missing = amount_of(need - self.free(share, run.owner), share)
        mine = [one for one in self._holders if one.owner == run.owner and _held(one, share)]
        held = [_holding(_named(mine), len(mine), sum(_held(one, share) for one in mine))]
        if share not in OWN:
            others = [one for one in self._holders if one.owner != run.owner and _held(one, share)]
            whose = "another user's run" if len(others) == 1 else f"{len(others)} runs of others"
            held.append(_holding(whose, len(others), sum(_held(one, share) for one in others)))
        kept = self._kept[_account(share, run.owner)]
        if kept > TINY:
            held.append(f"{number(kept)} kept for a run that has waited longer")
        return f"waits for {missing}: {' and '.join(filter(None, held))} of {number(total)}"


def _account(share: Share, owner: str) -> tuple[Share, str]:
    return share, owner if share in OWN else ""


def _held(run: Contender, share: Share) -> float:
    return needs(run.resources, run.concurrency)[share]


def _named(runs: Sequence[Contender]) -> str:
    names = ", ".join(run.id for run in runs[:_NAMED])
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"your {names}{more}"


def _holding(whose: str, runs: int, amount: float) -> str:
    return f"{whose} {'holds' if runs == 1 else 'hold'} {number(amount)}" if runs else ""


def amount_of(amount: float, share: Share) -> str:
    unit = _UNITS[share]
    return f"{number(amount)} {unit}{'' if amount == 1 else 's'}"


def number(amount: float) -> str:
    return f"{amount:.6g}"
