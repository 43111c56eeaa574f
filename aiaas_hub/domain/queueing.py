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
from enum import Enum, auto

from aiaas_hub.domain.ports import Capacity
from aiaas_hub.schemas.runs import Priority, QueuePlace, Quota, Resources, Used

UNLIMITED = math.inf
_RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}
_TINY = 1e-6
"""Tenths of a CPU do not add up exactly."""
_NAMED = 3
"""So many runs are named in a sentence."""


@dataclass(frozen=True)
class RunLimits:
    """What runs that are started and not over may hold."""

    runs: float = UNLIMITED
    workers: float = UNLIMITED
    gpus: float = UNLIMITED


@dataclass(frozen=True)
class QueueRules:
    per_user: RunLimits = RunLimits()
    in_all: RunLimits = RunLimits()
    patience: timedelta = timedelta(minutes=5)
    """How long a run that does not fit lets smaller ones go ahead."""
    of_user: Callable[[str], RunLimits] | None = None
    """Limits that differ from user to user; None: `per_user` is everybody's."""

    def own(self, user: str) -> RunLimits:
        return self.per_user if self.of_user is None else self.of_user(user)


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
    ledger = _Ledger(rules, capacity)
    waiting = _without_holders(contenders, ledger)
    verdicts: dict[str, Verdict] = {}
    if engine_reason:
        ordered = _in_order(waiting, ledger, rules.patience, now, last_starts)
        for position, (run, _) in enumerate(ordered, 1):
            verdicts[run.id] = Verdict(QueuePlace(position=position, blocked_by=engine_reason))
        return verdicts
    position = 0
    for one in _judged(waiting, ledger, rules.patience, now, last_starts):
        place = None
        if one.lacks is not None:
            position += 1
            place = QueuePlace(
                position=position,
                blocked_by=ledger.sentence(one.run, one.lacks),
                remedy=_instead(one.run, ledger),
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
    ledger = _Ledger(rules, capacity)
    waiting = _without_holders(contenders, ledger)
    judged = list(_judged(waiting, ledger, rules.patience, now, last_starts))
    return (
        [one.run.id for one in judged if one.lacks is None],
        [one.run.id for one in judged if one.never],
    )


def quota(contenders: Iterable[Contender], owner: str, limits: RunLimits) -> Quota:
    """What the owner's started runs hold, of what they may."""
    used: Counter[_Share] = Counter()
    for contender in contenders:
        if contender.started and contender.owner == owner:
            used.update(_needs(contender.resources, contender.concurrency))

    def of(share: _Share, limit: float) -> Used:
        return Used(used=used[share], limit=None if math.isinf(limit) else limit)

    return Quota(
        runs=of(_Share.OWN_RUNS, limits.runs),
        workers=of(_Share.OWN_WORKERS, limits.workers),
        gpus=of(_Share.OWN_GPUS, limits.gpus),
    )


def beyond(resources: Resources, concurrency: int, limits: RunLimits) -> str:
    """Why a run could never be started under these limits, in a sentence; empty if it could."""
    need = _needs(resources, concurrency)
    for share, limit, flag in (
        (_Share.OWN_WORKERS, limits.workers, "--workers"),
        (_Share.OWN_GPUS, limits.gpus, "--gpus-per-worker"),
    ):
        if need[share] > limit + _TINY:
            return (
                f"It asks for {_amount(need[share], share)}, and at most {_number(limit)} "
                f"may be held at a time (see {flag})."
            )
    return ""


def beyond_capacity(
    resources: Resources, concurrency: int, capacity: Capacity
) -> tuple[str, str] | None:
    """Why a run could never be started on what there is, and what to ask for instead."""
    need = _needs(resources, concurrency)
    each = {_Share.CPUS: resources.cpus_per_worker, _Share.GPUS: resources.gpus_per_worker}
    for share, total, flag in (
        (_Share.CPUS, capacity.cpus, "--cpus-per-worker"),
        (_Share.GPUS, capacity.gpus, "--gpus-per-worker"),
    ):
        if need[share] <= total + _TINY:
            continue
        sentence = f"It asks for {_amount(need[share], share)}, and the platform has "
        workers = math.floor((total + _TINY) / each[share])
        if concurrency > 1 and workers >= resources.workers:
            remedy = f"Ask for at most --concurrency {workers // resources.workers}."
        elif workers:
            remedy = f"Ask for at most --workers {workers}."
        else:
            remedy = f"Ask for at most {flag} {_number(total)}."
        return f"{sentence}{_number(total) if total else 'none'}.", remedy
    return None


class _Share(Enum):
    """What runs hold, and of which there is only so much."""

    OWN_RUNS = auto()
    OWN_WORKERS = auto()
    OWN_GPUS = auto()
    ALL_RUNS = auto()
    ALL_WORKERS = auto()
    ALL_GPUS = auto()
    CPUS = auto()
    GPUS = auto()


_OWN = frozenset({_Share.OWN_RUNS, _Share.OWN_WORKERS, _Share.OWN_GPUS})
_RUNS = frozenset({_Share.OWN_RUNS, _Share.ALL_RUNS})
_UNITS = {
    _Share.OWN_RUNS: "run",
    _Share.ALL_RUNS: "run",
    _Share.OWN_WORKERS: "worker",
    _Share.ALL_WORKERS: "worker",
    _Share.OWN_GPUS: "GPU",
    _Share.ALL_GPUS: "GPU",
    _Share.CPUS: "CPU",
    _Share.GPUS: "GPU",
}


def _needs(resources: Resources, concurrency: int) -> dict[_Share, float]:
    """What a run holds from its start to its end."""
    workers = resources.workers * concurrency
    gpus = workers * resources.gpus_per_worker
    return {
        _Share.OWN_RUNS: 1,
        _Share.OWN_WORKERS: workers,
        _Share.OWN_GPUS: gpus,
        _Share.ALL_RUNS: 1,
        _Share.ALL_WORKERS: workers,
        _Share.ALL_GPUS: gpus,
        _Share.CPUS: workers * resources.cpus_per_worker,
        _Share.GPUS: gpus,
    }


class _Ledger:
    """What there is, who holds it, and what is kept for those who have waited longest."""

    def __init__(self, rules: QueueRules, capacity: Capacity) -> None:
        self._rules = rules
        self._own: dict[str, RunLimits] = {}
        self._totals: dict[_Share, float] = {
            _Share.ALL_RUNS: rules.in_all.runs,
            _Share.ALL_WORKERS: rules.in_all.workers,
            _Share.ALL_GPUS: rules.in_all.gpus,
            _Share.CPUS: capacity.cpus,
            _Share.GPUS: capacity.gpus,
        }
        self._holders: list[Contender] = []
        self._held: defaultdict[tuple[_Share, str], float] = defaultdict(float)
        self._kept: defaultdict[tuple[_Share, str], float] = defaultdict(float)

    def take(self, run: Contender) -> None:
        self._holders.append(run)
        for share, amount in _needs(run.resources, run.concurrency).items():
            self._held[_account(share, run.owner)] += amount

    def keep(self, run: Contender, shares: Iterable[_Share]) -> None:
        """Give to nobody else what is free and this run needs."""
        need = _needs(run.resources, run.concurrency)
        for share in shares:
            self._kept[_account(share, run.owner)] += min(need[share], self.free(share, run.owner))

    def free(self, share: _Share, owner: str) -> float:
        account = _account(share, owner)
        return max(self._total(share, owner) - self._held[account] - self._kept[account], 0)

    def _total(self, share: _Share, owner: str) -> float:
        if share not in _OWN:
            return self._totals[share]
        if owner not in self._own:
            self._own[owner] = self._rules.own(owner)
        own = self._own[owner]
        return {
            _Share.OWN_RUNS: own.runs,
            _Share.OWN_WORKERS: own.workers,
            _Share.OWN_GPUS: own.gpus,
        }[share]

    def lacks(self, owner: str, need: Mapping[_Share, float]) -> _Share | None:
        """The first share of which there is not enough."""
        for share, amount in need.items():
            if amount > 0 and amount > self.free(share, owner) + _TINY:
                return share
        return None

    def could_ever(self, run: Contender) -> bool:
        need = _needs(run.resources, run.concurrency)
        return all(
            amount <= self._total(share, run.owner) + _TINY for share, amount in need.items()
        )

    def workers(self, owner: str) -> float:
        return self._held[_account(_Share.OWN_WORKERS, owner)]

    def sentence(self, run: Contender, share: _Share) -> str:
        """What the run waits for. Other users' runs are counted and never named."""
        total = self._total(share, run.owner)
        need = _needs(run.resources, run.concurrency)[share]
        if need > total + _TINY:
            whose = "you may have" if share in _OWN else "the platform has"
            return f"needs {_amount(need, share)}, and {whose} {_number(total)} in all"
        if share is _Share.OWN_RUNS:
            return f"waits for one of your {_number(total)} runs to end"
        if share is _Share.ALL_RUNS:
            return f"waits for one of {_number(total)} runs to end"
        missing = _amount(need - self.free(share, run.owner), share)
        mine = [one for one in self._holders if one.owner == run.owner and _held(one, share)]
        held = [_holding(_named(mine), len(mine), sum(_held(one, share) for one in mine))]
        if share not in _OWN:
            others = [one for one in self._holders if one.owner != run.owner and _held(one, share)]
            whose = "another user's run" if len(others) == 1 else f"{len(others)} runs of others"
            held.append(_holding(whose, len(others), sum(_held(one, share) for one in others)))
        kept = self._kept[_account(share, run.owner)]
        if kept > _TINY:
            held.append(f"{_number(kept)} kept for a run that has waited longer")
        return f"waits for {missing}: {' and '.join(filter(None, held))} of {_number(total)}"


@dataclass(frozen=True)
class _Judgement:
    run: Contender
    lacks: _Share | None
    """None: it starts."""
    never: bool = False
    in_gap: bool = False


def _without_holders(contenders: Iterable[Contender], ledger: _Ledger) -> list[Contender]:
    """Those that wait; what the others hold is written down."""
    waiting = []
    for contender in contenders:
        if contender.started:
            ledger.take(contender)
        else:
            waiting.append(contender)
    return waiting


def _judged(
    waiting: Sequence[Contender],
    ledger: _Ledger,
    patience: timedelta,
    now: datetime,
    last_starts: Mapping[str, datetime],
) -> Iterator[_Judgement]:
    """Each waiting run in its order; meanwhile the ledger is as it was judged by."""
    gap = False
    for run, is_due in _in_order(waiting, ledger, patience, now, last_starts):
        lacks = ledger.lacks(run.owner, _needs(run.resources, run.concurrency))
        if lacks is None:
            ledger.take(run)
            yield _Judgement(run, None, in_gap=gap)
            continue
        never = not ledger.could_ever(run)
        yield _Judgement(run, lacks, never)
        if never:
            continue
        gap = gap or lacks not in _OWN
        if lacks in _OWN and now - run.since >= patience:
            ledger.keep(run, _OWN)
        elif lacks not in _OWN and is_due:
            ledger.keep(run, _Share)


def _in_order(
    waiting: Sequence[Contender],
    ledger: _Ledger,
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
    workers = {owner: ledger.workers(owner) for owner in lines}
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


def _instead(run: Contender, ledger: _Ledger) -> str:
    """The least change of the run with which it would start now, as options to type."""
    asked = run.resources
    options: list[tuple[str, Resources, int]] = []
    need = _needs(asked, run.concurrency)
    scales = [share for share in _Share if share not in _RUNS and need[share] > 0]
    part = min((ledger.free(share, run.owner) + _TINY) / need[share] for share in scales)
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
        if ledger.lacks(run.owner, _needs(resources, concurrency)) is None:
            return f"with {flags} it would start now"
    return ""


def _account(share: _Share, owner: str) -> tuple[_Share, str]:
    return share, owner if share in _OWN else ""


def _held(run: Contender, share: _Share) -> float:
    return _needs(run.resources, run.concurrency)[share]


def _named(runs: Sequence[Contender]) -> str:
    names = ", ".join(run.id for run in runs[:_NAMED])
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"your {names}{more}"


def _holding(whose: str, runs: int, amount: float) -> str:
    return f"{whose} {'holds' if runs == 1 else 'hold'} {_number(amount)}" if runs else ""


def _amount(amount: float, share: _Share) -> str:
    unit = _UNITS[share]
    return f"{_number(amount)} {unit}{'' if amount == 1 else 's'}"


def _number(amount: float) -> str:
    return f"{amount:.6g}"
