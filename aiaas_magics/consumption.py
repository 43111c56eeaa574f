"""`aiaas.usage`: what was used and what it cost, what is left of the quotas."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.usage import Allowance, GroupBy, UsageLine
from aiaas_magics import display
from aiaas_magics.client import current_client
from aiaas_magics.display import Rich

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 50


class Usage(Rich):
    """A report: lines by user, group, profile, run, endpoint, server or day."""

    def __init__(
        self,
        by: GroupBy,
        since: datetime | None,
        until: datetime | None,
        owner: str | None,
    ) -> None:
        self._client = current_client()
        self._asked = (by, since, until, owner)
        self.record = self._client.usage.report(by, since, until, owner)
        self.allowances = self._client.usage.allowances()

    @property
    def lines(self) -> list[UsageLine]:
        return self.record.lines

    def to_pandas(self) -> pd.DataFrame:
        """A row for each line; hours and cost as float64."""
        import pandas as pd

        rows = [line.model_dump() for line in self.lines]
        names = list(UsageLine.model_fields)
        frame = pd.DataFrame(rows, columns=names).set_index("key")
        return frame.rename_axis(self.record.by.value)

    def to_csv(self, path: str | Path) -> Path:
        """Write the report to a file for spreadsheets; returns the file."""
        file = Path(path).expanduser()
        aside = file.with_name(f".{file.name}.part")
        try:
            self._client.usage.download(*self._asked, aside)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
        return file

    def plot(self) -> Rich:
        """The lines as bars."""
        return Bars(self)

    @property
    def _title(self) -> str:
        since, until = self.record.since, self.record.until
        whose = self.record.owner or "everybody"
        return f"Usage of {whose} by {self.record.by}, {since:%d %b} to {until:%d %b %Y}"

    def _rows(self) -> list[list[str]]:
        rows = [
            [
                display.clean(line.key),
                f"{line.hours:.2f}",
                f"{line.worker_hours:.2f}",
                f"{line.gpu_hours:.2f}",
                f"{line.cost:.2f}",
            ]
            for line in self.lines[:_SHOWN]
        ]
        total = self.record.total
        numbers = (total.hours, total.worker_hours, total.gpu_hours, total.cost)
        rows.append(["all together", *(f"{number:.2f}" for number in numbers)])
        return rows

    def _heads(self) -> list[str]:
        return [self.record.by.value, "hours", "worker-hours", "GPU-hours", "cost"]

    def _more(self) -> str:
        hidden = len(self.lines) - _SHOWN
        return f"… and {hidden} more: .to_pandas() or --csv FILE has all." if hidden > 0 else ""

    def _html(self) -> str:
        rows = [[display.escape(cell) for cell in row] for row in self._rows()]
        left = "".join(
            f"<div>{display.bar(share(one), one.name)}{display.escape(allowance_text(one))}</div>"
            for one in self.allowances
        )
        return (
            f"<div><strong>{display.escape(self._title)}</strong></div>"
            f"{display.table(self._heads(), rows)}"
            f"{display.muted(self._more())}{left}"
        )

    def _text(self) -> str:
        parts = [self._title, display.text_table(self._heads(), self._rows()), self._more()]
        parts += [allowance_text(one) for one in self.allowances]
        return "\n".join(part for part in parts if part)


class Bars(Rich):
    """The costs of a report's lines as bars, or their hours where nothing has a price."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        priced = usage.record.total.cost > 0
        self._unit = "cost" if priced else "hours"
        self._values = [
            (display.clean(line.key), line.cost if priced else line.hours)
            for line in usage.lines[:_SHOWN]
        ]
        self._largest = max((value for _, value in self._values), default=0) or 1

    def _html(self) -> str:
        rows = [
            [display.escape(key), display.bar(value / self._largest, key) + f"{value:.2f}"]
            for key, value in self._values
        ]
        return display.table([self._usage.record.by.value, self._unit], rows)

    def _text(self) -> str:
        rows = [
            [key, f"{'█' * max(1, round(20 * value / self._largest))} {value:.2f}"]
            for key, value in self._values
        ]
        return display.text_table([self._usage.record.by.value, self._unit], rows)


def share(allowance: Allowance) -> float:
    return min(1.0, allowance.used / allowance.limit) if allowance.limit else 1.0


def allowance_text(allowance: Allowance) -> str:
    """`GPU-hours 3.2 of 10, renews 1 Dec (with the group students)`"""
    unit = f" {allowance.unit}" if allowance.unit else ""
    text = f"{allowance.name} {allowance.used:.4g} of {allowance.limit:.4g}{unit}"
    if allowance.renews_at is not None:
        text += f", renews {allowance.renews_at.day} {allowance.renews_at:%b}"
    if allowance.group is not None:
        text += f" (with the group {allowance.group})"
    return text


def usage(
    by: str = "run",
    since: date | str | None = None,
    until: date | str | None = None,
    owner: str | None = None,
) -> Usage:
    """What I have used since the quotas' period began, or `since` a day (UTC).

    `by` is one of user, group, profile, run, endpoint, server, day. `owner` is for
    administrators, who get everybody's without it.
    """
    try:
        grouped = GroupBy(by)
    except ValueError:
        raise InvalidInput(
            f"Usage is not summed by {by!r}.", remedy=f"Give one of {', '.join(GroupBy)}."
        ) from None
    return Usage(grouped, _moment(since), _moment(until), owner)


def _moment(given: date | str | None) -> datetime | None:
    if given is None:
        return None
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            raise InvalidInput(f"{given!r} is no day.", remedy="Write 2026-01-31.") from None
    if not isinstance(given, datetime):
        given = datetime.combine(given, time())
    return given if given.tzinfo else given.replace(tzinfo=UTC)
