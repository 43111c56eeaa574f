"""What was used, and what is left."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from aiaas_hub.api.identity import Caller, Principal, Scope
from aiaas_hub.api.services import Api, Services
from aiaas_hub.domain.usage import report
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.usage import Allowance, GroupBy, UsageAmounts, UsageLine, UsageReport

router = APIRouter(tags=["usage"])


def _report(
    caller: Caller,
    api: Api,
    owner: Annotated[
        str | None, Query(max_length=255, description="Default: me, of an administrator everybody")
    ] = None,
    by: GroupBy = GroupBy.RUN,
    since: Annotated[
        datetime | None,
        Query(description="ISO 8601 with its time zone. Default: the quotas' period"),
    ] = None,
    until: Annotated[datetime | None, Query(description="Likewise. Default: now")] = None,
) -> UsageReport:
    of = owner if owner is not None or caller.reads_all else caller.user
    if of is not None:
        caller.require(Scope.READ, of)
    for moment in (since, until):
        if moment is not None and moment.tzinfo is None:
            raise InvalidInput("A moment needs its time zone.", remedy="2026-01-31T12:00:00Z")
    begin = since or api.budgets.period()[0]
    # What is to come is not used yet.
    end = min(until or datetime.now(UTC), datetime.now(UTC))
    if begin > end:
        raise InvalidInput("`since` is later than `until`.", remedy="Swap them.")
    spans = api.usage.spans(None if of is None else [of], begin)
    return report(spans, begin, end, by, of, _groups(caller, api))


def _groups(caller: Principal, api: Services) -> dict[str, frozenset[str]]:
    groups = api.members.groups()
    return dict(groups) if caller.reads_all else {caller.user: groups.get(caller.user, frozenset())}


Report = Annotated[UsageReport, Depends(_report)]


@router.get("/usage")
def get_usage(report: Report) -> UsageReport:
    """Hours and cost of what was held, summed by what is asked for."""
    return report


@router.get("/usage/csv", response_class=Response)
def get_usage_csv(report: Report) -> Response:
    """The same as a table for spreadsheets."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    names = list(UsageAmounts.model_fields)
    writer.writerow([report.by.value, *names])
    writer.writerows(_rows(report.lines, names))
    return Response(
        sink.getvalue(),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="usage-by-{report.by}.csv"'},
    )


def _rows(lines: list[UsageLine], names: list[str]) -> Iterator[list[str]]:
    for line in lines:
        # A spreadsheet would take a name that begins so for a formula.
        key = f"'{line.key}" if line.key[:1] in ("=", "+", "-", "@", "\t", "\r") else line.key
        yield [key, *(f"{getattr(line, name):.6g}" for name in names)]


@router.get("/quotas")
def get_quotas(caller: Caller, api: Api, owner: str | None = None) -> list[Allowance]:
    """A user's quotas and how far they are used."""
    of = owner or caller.user
    caller.require(Scope.READ, of)
    return api.budgets.allowances(of)
