"""Who held what for how long, and what that comes to. Pure, but for the Protocols."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Protocol

from aiaas_hub.schemas.runs import Resources
from aiaas_hub.schemas.usage import (
    GroupBy,
    UsageAmounts,
    UsageKind,
    UsageLine,
    UsageReport,
)

NO_GROUP = "(no group)"


@dataclass(frozen=True)
class Span:
    """What somebody held from one moment to another."""

    kind: UsageKind
    subject: str
    owner: str
    profile: str
    workers: int
    cpus: float
    gpus: float
    price_per_hour: float
    started_at: datetime
    ended_at: datetime | None
    """None: it is held still."""


@dataclass(frozen=True)
class Rate:
    """As which profile a run's workers count, and what all of them cost."""

    profile: str
    price_per_hour: float


Rating = Callable[[Resources, int], Rate]
"""Resources of a worker group, and how many of these groups there are at a time."""


class UsageRecords(Protocol):
    """Runs and endpoints are written down where their state changes, in the same transaction."""

    def spans(self, owners: Sequence[str] | None, since: datetime) -> Sequence[Span]:
        """Those that were held after `since`; of everybody where `owners` is None."""

    def storage(self, owner: str) -> int:
        """Bytes of the owner's datasets and models; what is there twice counts once."""


class Members(Protocol):
    """Who is in which group, as the hub last said."""

    def groups(self) -> Mapping[str, frozenset[str]]:
        """By user."""

    def replace(self, groups: Mapping[str, Sequence[str]]) -> None:
        """What the hub says now, of everybody."""


def amounts(span: Span, since: datetime, until: datetime) -> UsageAmounts:
    """What of a span falls between the two moments."""
    begin, end = max(span.started_at, since), min(span.ended_at or until, until)
    hours = max((end - begin).total_seconds(), 0) / 3600
    return UsageAmounts(
        hours=hours,
        worker_hours=hours * span.workers if span.kind is UsageKind.RUN else 0,
        cpu_hours=hours * span.cpus,
        gpu_hours=hours * span.gpus,
        cost=hours * span.price_per_hour,
    )


def add(one: UsageAmounts, other: UsageAmounts) -> UsageAmounts:
    return UsageAmounts(
        **{name: getattr(one, name) + getattr(other, name) for name in UsageAmounts.model_fields}
    )


def total(spans: Iterable[Span], since: datetime, until: datetime) -> UsageAmounts:
    summed = UsageAmounts()
    for span in spans:
        summed = add(summed, amounts(span, since, until))
    return summed


def report(
    spans: Sequence[Span],
    since: datetime,
    until: datetime,
    by: GroupBy,
    owner: str | None,
    groups: Mapping[str, frozenset[str]],
) -> UsageReport:
    lines: dict[str, UsageAmounts] = defaultdict(UsageAmounts)
    for span in spans:
        for key, begin, end in _parts(span, since, until, by, groups):
            part = amounts(span, begin, end)
            if part.hours > 0:
                lines[key] = add(lines[key], part)
    listed = [UsageLine(key=key, **dict(sums)) for key, sums in lines.items()]
    if by is GroupBy.DAY:
        listed.sort(key=lambda line: line.key)
    else:
        listed.sort(key=lambda line: (-line.cost, -line.gpu_hours, -line.hours, line.key))
    return UsageReport(
        since=since,
        until=until,
        by=by,
        owner=owner,
        lines=listed,
        total=total(spans, since, until),
    )


def _parts(
    span: Span,
    since: datetime,
    until: datetime,
    by: GroupBy,
    groups: Mapping[str, frozenset[str]],
) -> Iterator[tuple[str, datetime, datetime]]:
    """The keys that a span counts for, and from when to when."""
    if by is GroupBy.USER:
        yield span.owner, since, until
    elif by is GroupBy.GROUP:
        for group in sorted(groups.get(span.owner, ())) or [NO_GROUP]:
            yield group, since, until
    elif by is GroupBy.PROFILE:
        yield span.profile or f"({span.kind})", since, until
    elif by is GroupBy.DAY:
        day = max(span.started_at, since).astimezone(UTC).date()
        last = min(span.ended_at or until, until)
        while (begin := datetime.combine(day, time(), UTC)) < last:
            end = begin + timedelta(days=1)
            yield day.isoformat(), max(begin, since), min(end, until)
            day += timedelta(days=1)
    elif by.value == span.kind.value:
        yield span.subject, since, until
