"""Which waiting runs start now, and what the others wait for. Pure: nothing here asks or changes.

One user's runs are ordered by priority, then by submission. Between users the one whose runs have
the fewest workers goes first: many runs of one are no obstacle to another's first. A run that does
not fit lets smaller ones behind it start in the gap, until it has waited for `patience` in which
its owner got nothing. Then it goes before all others, and what is free is kept for it until it
fits. An owner is given that once per `patience`, so that a long line of old runs does not keep
everybody else out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiaas_hub.domain.holdings import (
    NO_LIMITS,
    OWN,
    RUNS,
    TINY,
    Contender,
    Holdings,
    RunLimits,
    Share,
    amount_of,
    needs,
    number,
)
from aiaas_hub.domain.ports import Capacity
from aiaas_hub.schemas.runs import Priority, QueuePlace, Quota, Resources, Used

_RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


@dataclass(frozen=True)
class QueueRules:
    per_user: RunLimits = NO_LIMITS
    in_all: RunLimits = NO_LIMITS
    patience: timedelta = timedelta(minutes=5)
    """How long a run that does not fit lets smaller ones go ahead."""
    of_user: Callable[[str], RunLimits] | None = None
    """Limits that differ from user to user; None: `per_user` is everybody's."""

    def own(self, user: str) -> RunLimits:
        return self.per_user if self.of_user is None else self.of_user(user)


@dataclass(frozen=True)
class Verdict:
    place: QueuePlace | None = None
    """What the run waits for; None: it starts now."""
    in_gap: bool = False
    """It goes ahead of a bigger one that does not fit."""


def decide(
    contenders: Iterable[Contender],
    rules: QueueRules,
    capacity: Capacity,
    now: datetime,
    last_starts: Mapping[str, datetime],
    engine_reason: str = "",
) -> dict[str, Verdict]:
    """A verdict on each waiting run by id, in the order of the queue.

    `last_starts`: when each owner's last run was started, where that is less than `patience` ago.
    `engine_reason`: why the engine takes no run at all now; empty if it does.
    """
    holdings = Holdings(rules.in_all, rules.own, capacity)
    waiting = _without_holders(contenders, holdings)
    verdicts: dict[str, Verdict] = {}
    if engine_reason:
        ordered = _in_order(waiting, holdings, rules.patience, now, last_starts)
        for position, (run, _) in enumerate(ordered, 1):
            verdicts[run.id] = Verdict(QueuePlace(position=position, blocked_by=engine_reason))
        return verdicts
    position = 0
    for one in _judged(waiting, holdings, rules.patience, now, last_starts):
        place = None
        if one.lacks is not None:
            position += 1
            place = QueuePlace(
                position=position,
                blocked_by=holdings.sentence(one.run, one.lacks),
                remedy=_instead(one.run, holdings),
                never=one.never,
            )
        verdicts[one.run.id] = Verdict(place, one.in_gap)
    return verdicts


def startable(
    contenders: Iterable[Contender],
    rules: QueueRules,
    capacity: Capacity,
    now: datetime,
    last_starts: Mapping[str, datetime],
) -> tuple[list[str], list[str]]:
    """The waiting runs that `decide` would start, and those that it never would: without a word,
    which is what takes its time."""
    holdings = Holdings(rules.in_all, rules.own, capacity)
    waiting = _without_holders(contenders, holdings)
    judged = list(_judged(waiting, holdings, rules.patience, now, last_starts))
    return (
        [one.run.id for one in judged if one.lacks is None],
        [one.run.id for one in judged if one.never],
    )


def quota(contenders: Iterable[Contender], owner: str, limits: RunLimits) -> Quota:
    """What the owner's started runs hold, of what they may."""
    used: Counter[Share] = Counter()
    for contender in contenders:
        if contender.started and contender.owner == owner:
            used.update(needs(contender.resources, contender.concurrency))

    def of(share: Share, limit: float) -> Used:
        return Used(used=used[share], limit=None if math.isinf(limit) else limit)

    return Quota(
        runs=of(Share.OWN_RUNS, limits.runs),
        workers=of(Share.OWN_WORKERS, limits.workers),
        gpus=of(Share.OWN_GPUS, limits.gpus),
    )


def beyond(resources: Resources, concurrency: int, limits: RunLimits) -> str:
    """Why a run could never be started under these limits, in a sentence; empty if it could."""
    need = needs(resources, concurrency)
    for share, limit, flag in (
        (Share.OWN_WORKERS, limits.workers, "--workers"),
        (Share.OWN_GPUS, limits.gpus, "--gpus-per-worker"),
    ):
        if need[share] > limit + TINY:
            return (
                f"It asks for {amount_of(need[share], share)}, and at most {number(limit)} "
                f"may be held at a time (see {flag})."
            )
    return ""


def beyond_capacity(
    resources: Resources, concurrency: int, capacity: Capacity
) -> tuple[str, str] | None:
    """Why a run could never be started on what there is, and what to ask for instead."""
    need = needs(resources, concurrency)
    each = {Share.CPUS: resources.cpus_per_worker, Share.GPUS: resources.gpus_per_worker}
    for share, total, flag in (
        (Share.CPUS, capacity.cpus, "--cpus-per-worker"),
        (Share.GPUS, capacity.gpus, "--gpus-per-worker"),
    ):
        if need[share] <= total + TINY:
            continue
        sentence = f"It asks for {amount_of(need[share], share)}, and the platform has "
        workers = math.floor((total + TINY) / each[share])
        if concurrency > 1 and workers >= resources.workers:
            remedy = f"Ask for at most --concurrency {workers // resources.workers}."
        elif workers:
            remedy = f"Ask for at most --workers {workers}."
        else:
            remedy = f"Ask for at most {flag} {number(total)}."
        return f"{sentence}{number(total) if total else 'none'}.", remedy
    return None


@dataclass(frozen=True)
class _Judgement:
    run: Contender
    lacks: Share | None
    """None: it starts."""
    never: bool = False
    in_gap: bool = False


def _without_holders(contenders: Iterable[Contender], holdings: Holdings) -> list[Contender]:
    """Those that wait; what the others hold is written down."""
    waiting = []
    for contender in contenders:
        if contender.started:
            holdings.take(contender)
        else:
            waiting.append(contender)
    return waiting


def _judged(
    waiting: Sequence[Contender],
    holdings: Holdings,
    patience: timedelta,
    now: datetime,
    last_starts: Mapping[str, datetime],
) -> Iterator[_Judgement]:
    """Each waiting run in its order; meanwhile the holdings are as it was judged by."""
    gap = False
    for run, is_due in _in_order(waiting, holdings, patience, now, last_starts):
        lacks = holdings.lacks(run.owner, needs(run.resources, run.concurrency))
        if lacks is None:
            holdings.take(run)
            yield _Judgement(run, None, in_gap=gap)
            continue
        never = not holdings.could_ever(run)
        yield _Judgement(run, lacks, never)
        if never:
            continue
        gap = gap or lacks not in OWN
        if lacks in OWN and now - run.since >= patience:
            holdings.keep(run, OWN)
        elif lacks not in OWN and is_due:
            holdings.keep(run, Share)


def _in_order(
    waiting: Sequence[Contender],
    holdings: Holdings,
    patience: timedelta,
    now: datetime,
    last_starts: Mapping[str, datetime],
) -> Iterator[tuple[Contender, bool]]:
    """The waiting runs, each with whether it has waited long enough to go before all others.

    Those already given count as started, so that the rest is in fair order even where they were
    not."""
    lines: dict[str, list[Contender]] = defaultdict(list)
    # The last of each line is its first, which can be taken off at once.
    for run in sorted(waiting, key=lambda run: (_RANK[run.priority], run.order), reverse=True):
        lines[run.owner].append(run)
    workers = {owner: holdings.workers(owner) for owner in lines}
    served = {owner for owner in lines if owner in last_starts}

    def rank(owner: str) -> tuple[bool, float, int]:
        first = lines[owner][-1]
        due = owner not in served and now - first.since >= patience
        return (not due, 0 if due else workers[owner], first.order)

    while lines:
        owner = min(lines, key=rank)
        is_due = not rank(owner)[0]
        run = lines[owner].pop()
        if not lines[owner]:
            del lines[owner]
        workers[owner] += run.resources.workers * run.concurrency
        served.add(owner)
        yield run, is_due


def _instead(run: Contender, holdings: Holdings) -> str:
    """The least change of the run with which it would start now, as options to type."""
    asked = run.resources
    options: list[tuple[str, Resources, int]] = []
    need = needs(asked, run.concurrency)
    scales = [share for share in Share if share not in RUNS and need[share] > 0]
    part = min((holdings.free(share, run.owner) + TINY) / need[share] for share in scales)
    for flag, many in (("--concurrency", run.concurrency), ("--workers", asked.workers)):
        fewer = math.floor(min(part, 1) * many)
        if 1 <= fewer < many:
            if flag == "--concurrency":
                options.append((f"{flag} {fewer}", asked, fewer))
            else:
                fewer_workers = asked.model_copy(update={"workers": fewer})
                options.append((f"{flag} {fewer}", fewer_workers, run.concurrency))
    if asked.gpus_per_worker:
        without = asked.model_copy(update={"gpus_per_worker": 0})
        options.append(("--gpus-per-worker 0", without, run.concurrency))
    if asked.cpus_per_worker > 1:
        slower = asked.model_copy(update={"cpus_per_worker": 1})
        options.append(("--cpus-per-worker 1", slower, run.concurrency))
        single = slower.model_copy(update={"workers": 1})
        options.append(("--workers 1 --cpus-per-worker 1", single, 1))
    for flags, resources, concurrency in options:
        if holdings.lacks(run.owner, needs(resources, concurrency)) is None:
            return f"with {flags} it would start now"
    return ""
