"""What a user may use, from one file; `Budgets` holds it against what is used.

    period: month                 # or day, week: from its first midnight, UTC
    default: {gpu_hours: 100, storage_gb: 50, endpoints: 10}
    groups:                       # for each member; of several groups the most generous counts
      students: {gpu_hours: 10, gpus: 1}
    users:                        # wins over groups and default, field by field
      ada: {gpu_hours: 1000}
    shared:                       # what all members of a group may use together
      students: {gpu_hours: 200}

What is left out is not limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from aiaas_hub.domain.holdings import UNLIMITED, RunLimits
from aiaas_hub.domain.usage import Members, UsageRecords, total
from aiaas_hub.schemas.errors import Forbidden
from aiaas_hub.schemas.runs import Resources, Run, RunError
from aiaas_hub.schemas.usage import Allowance

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Period(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Hours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu_hours: Amount | None = None
    worker_hours: Amount | None = None


class Limits(Hours):
    runs: Count | None = None
    """Started and not over, as are workers and GPUs."""
    workers: Count | None = None
    gpus: Count | None = None
    storage_gb: Amount | None = None
    """10^9 bytes."""
    endpoints: Count | None = None


class Quotas(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    period: Period = Period.MONTH
    default: Limits = Limits()
    groups: Mapping[str, Limits] = {}
    users: Mapping[str, Limits] = {}
    shared: Mapping[str, Hours] = {}

    def of(self, user: str, groups: frozenset[str]) -> Limits:
        """The user's own limits."""
        granted = [self.groups[group] for group in sorted(groups) if group in self.groups]
        own = self.users.get(user, Limits())
        found = {}
        for name in Limits.model_fields:
            mine = getattr(own, name)
            given = [value for one in granted if (value := getattr(one, name)) is not None]
            general = getattr(self.default, name)
            found[name] = mine if mine is not None else max(given) if given else general
        return Limits(**found)


def period_around(period: Period, moment: datetime) -> tuple[datetime, datetime]:
    """Beginning and end of the period, UTC, that the moment is in."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        return day, day + timedelta(days=1)
    if period is Period.WEEK:
        begin = day - timedelta(days=day.weekday())
        return begin, begin + timedelta(days=7)
    begin = day.replace(day=1)
    return begin, (begin + timedelta(days=32)).replace(day=1)


class Budgets:
    """While the quotas file is broken, what asks for more is refused with `Unavailable` and nothing
    that exists is taken away; who looks sees it as it last was, and the queue goes by that."""

    def __init__(
        self,
        read: Callable[[], Quotas],
        last: Callable[[], Quotas | None],
        usage: UsageRecords,
        members: Members,
        count_endpoints: Callable[[str], int],
        in_general: RunLimits,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._read = read
        self._last = last
        self._usage = usage
        self._members = members
        self._count_endpoints = count_endpoints
        self._in_general = in_general
        self._now = now

    def run_limits(self, owner: str) -> RunLimits:
        """What the owner's started runs may hold: of the file and the general settings the less."""
        quotas = self._last()
        if quotas is None:
            return RunLimits(0, 0, 0)  # nobody knows: nothing is started
        limits = quotas.of(owner, self._groups(owner))

        def less(own: int | None, general: float) -> float:
            return min(UNLIMITED if own is None else own, general)

        return RunLimits(
            less(limits.runs, self._in_general.runs),
            less(limits.workers, self._in_general.workers),
            less(limits.gpus, self._in_general.gpus),
        )

    def allowances(self, owner: str) -> list[Allowance]:
        """Every quota that the owner has, and how far it is used."""
        quotas = self._last() or Quotas()
        limits = quotas.of(owner, self._groups(owner))
        found = list(self._hours(owner, quotas))
        if limits.storage_gb is not None:
            used = self._usage.storage(owner) / 1e9
            found.append(Allowance(name="storage", used=used, limit=limits.storage_gb, unit="GB"))
        if limits.endpoints is not None:
            count = self._count_endpoints(owner)
            found.append(Allowance(name="endpoints", used=count, limit=limits.endpoints))
        return found

    def require_run(self, owner: str, resources: Resources) -> None:
        """Raise `Forbidden` where the hours that such a run takes are used up."""
        error = self.used_up(owner, resources)
        if error is not None:
            raise Forbidden(error.message, remedy=error.remedy)

    def hours(self, owner: str, resources: Resources) -> list[Allowance]:
        """The hours that a run with these resources uses."""
        return self._hours_of_run(owner, resources, self._last() or Quotas())

    def used_up(self, owner: str, resources: Resources) -> RunError | None:
        """Why a run with these resources may not go on; None: it may."""
        quotas = self._read()
        for allowance in self._hours_of_run(owner, resources, quotas):
            if allowance.used < allowance.limit or allowance.renews_at is None:
                continue
            whose = f"The group {allowance.group} has" if allowance.group else "You have"
            return RunError(
                message=f"{whose} used {allowance.used:.4g} of {allowance.limit:.4g} "
                f"{allowance.name} of this {quotas.period}.",
                remedy=f"They renew on {allowance.renews_at:%d %B, %H:%M} UTC. See %aiaas usage, "
                "or ask an administrator for more.",
            )
        return None

    def stopped(self, run: Run) -> RunError | None:
        """Why a run that goes on must end now; None: it may go on."""
        error = self.used_up(run.owner, run.resources)
        if error is None:
            return None
        return RunError(
            message=f"The run was stopped: {error.message[0].lower()}{error.message[1:]}",
            remedy=f"Its checkpoints are kept: %aiaas resume {run.id} goes on from the last one, "
            f"once there are hours again. {error.remedy}",
        )

    def require_storage(self, owner: str, more: int = 0) -> None:
        """Raise `Forbidden` where `more` bytes do not fit."""
        limit = self._limits(owner).storage_gb
        if limit is None:
            return
        used = (self._usage.storage(owner) + more) / 1e9
        if used > limit or (not more and used >= limit):
            raise Forbidden(
                f"You may store {limit:g} GB, and with this it would be {used:.4g} GB.",
                remedy="Ask an administrator for more: see %aiaas usage.",
            )

    def require_endpoint(self, owner: str, is_new: bool) -> None:
        """Raise `Forbidden` where the owner may not have one more endpoint."""
        limit = self._limits(owner).endpoints
        if limit is not None and is_new and self._count_endpoints(owner) >= limit:
            raise Forbidden(
                f"You may have {limit} endpoint{'' if limit == 1 else 's'}, and have as many.",
                remedy="Retire one: %aiaas retire NAME. Or ask an administrator for more.",
            )

    def period(self) -> tuple[datetime, datetime]:
        return period_around((self._last() or Quotas()).period, self._now())

    def _limits(self, owner: str) -> Limits:
        return self._read().of(owner, self._groups(owner))

    def _groups(self, owner: str) -> frozenset[str]:
        return self._members.groups().get(owner, frozenset())

    def _hours_of_run(self, owner: str, resources: Resources, quotas: Quotas) -> list[Allowance]:
        return [
            allowance
            for allowance in self._hours(owner, quotas)
            if allowance.name != "GPU-hours" or resources.gpus_per_worker
        ]

    def _hours(self, owner: str, quotas: Quotas) -> Iterator[Allowance]:
        groups = self._members.groups()
        mine = groups.get(owner, frozenset())
        pools: list[tuple[str | None, Hours]] = [(None, quotas.of(owner, mine))]
        pools += [(group, quotas.shared[group]) for group in sorted(mine & set(quotas.shared))]
        now = self._now()
        since, renews_at = period_around(quotas.period, now)
        for group, hours in pools:
            if hours.gpu_hours is None and hours.worker_hours is None:
                continue
            owners = [owner]
            if group is not None:
                owners = [user for user, their in groups.items() if group in their]
            used = total(self._usage.spans(owners, since), since, now)
            for name, spent, limit in (
                ("GPU-hours", used.gpu_hours, hours.gpu_hours),
                ("worker-hours", used.worker_hours, hours.worker_hours),
            ):
                if limit is not None:
                    yield Allowance(
                        name=name, used=spent, limit=limit, renews_at=renews_at, group=group
                    )
