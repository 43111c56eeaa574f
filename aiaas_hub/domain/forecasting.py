"""When waiting runs will start, if runs take as long as runs usually do. Pure: the queue is played
forward with the rules that it is kept by."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aiaas_hub.domain.holdings import Contender
from aiaas_hub.domain.ports import Capacity
from aiaas_hub.domain.queueing import QueueRules, startable

_ENDS = 50
"""So many ends of runs are looked ahead; further on nobody would bet on it."""
_MOST = 100
"""Runs that hold or wait: of a longer line nothing is forecast, since each look takes longer."""
_STEPS = ((10, 60), (60, 3600), (600, math.inf))
"""Estimates are told in steps of so many seconds, below so many."""


@dataclass(frozen=True)
class Past:
    """A run that is over, however it ended: what it held was free again."""

    owner: str
    name: str
    seconds: float
    """From the first worker's call of `train` to its end."""


def forecast(
    wanted: Iterable[str],
    contenders: Sequence[Contender],
    rules: QueueRules,
    capacity: Capacity,
    now: datetime,
    last_starts: Mapping[str, datetime],
    past: Sequence[Past],
) -> dict[str, float]:
    """Seconds until the turn of each of these waiting runs; those for which nobody knows are left
    out.

    A run of which neither its like nor a time limit tells when it ends is taken to hold what it
    has for ever.
    """
    open_ones = set(wanted)
    found: dict[str, float] = {}
    if len(contenders) > _MOST:
        return found
    runs = {run.id: run for run in contenders}
    starts = dict(last_starts)
    ends = {run.id: _end(run, now, past) for run in contenders if run.started}
    at = now
    for _ in range(_ENDS + 1):
        recent = {owner: when for owner, when in starts.items() if at - when < rules.patience}
        starting, never = startable(runs.values(), rules, capacity, at, recent)
        open_ones.difference_update(never)
        for run_id in starting:
            if run_id in open_ones:
                found[run_id] = _rounded((at - now).total_seconds())
                open_ones.remove(run_id)
            run = runs[run_id] = replace(runs[run_id], started=True, begun=at)
            starts[run.owner] = at
            ends[run_id] = _end(run, at, past)
        known = [(end, run_id) for run_id, end in ends.items() if end is not None]
        if not open_ones or not known:
            break
        at, first = min(known)
        del runs[first], ends[first]
    return found


def _rounded(seconds: float) -> float:
    """Up to what an estimate can mean: who watches is not told of a new one each second."""
    step = next((step for step, below in _STEPS if seconds < below), _STEPS[-1][0])
    return float(math.ceil(seconds / step) * step)


def _end(run: Contender, now: datetime, past: Sequence[Past]) -> datetime | None:
    left = seconds_left(run, now, past)
    return None if left is None else now + timedelta(seconds=left)


def seconds_left(run: Contender, now: datetime, past: Sequence[Past]) -> float | None:
    """How long a started run will still take: as long as the median of its owner's runs of this
    name, else of its owner's, else of all, that lasted longer than it has already; at most what
    its time limit leaves."""
    so_far = max(0.0, (now - run.begun).total_seconds()) if run.begun else 0.0
    limited = None if run.time_limit is None else max(0.0, run.time_limit - so_far)
    mine = [one for one in past if one.owner == run.owner]
    for likes in ([one for one in mine if one.name == run.name], mine, past):
        longer = [one.seconds for one in likes if one.seconds > so_far]
        if longer:
            left = statistics.median(longer) - so_far
            return left if limited is None else min(left, limited)
    return limited
