"""Usage and quotas over REST."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import RootModel

from aiaas_hub.schemas.usage import Allowance, GroupBy, UsageReport
from aiaas_magics.client.transport import Query, Transport

Allowances = RootModel[list[Allowance]]


class UsageClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def report(
        self, by: GroupBy, since: datetime | None, until: datetime | None, owner: str | None
    ) -> UsageReport:
        query = _query(by, since, until, owner)
        return self._transport.call("GET", "/usage", UsageReport, query=query)

    def download(
        self,
        by: GroupBy,
        since: datetime | None,
        until: datetime | None,
        owner: str | None,
        target: Path,
    ) -> None:
        """Write the report to `target` as CSV."""
        query = _query(by, since, until, owner)
        self._transport.download("/usage/csv", target, query=query)

    def allowances(self) -> list[Allowance]:
        return self._transport.call("GET", "/quotas", Allowances).root


def _query(by: GroupBy, since: datetime | None, until: datetime | None, owner: str | None) -> Query:
    return {
        "by": by.value,
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
        "owner": owner,
    }
