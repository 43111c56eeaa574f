"""When this notebook server will be stopped, as its spawner told it in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal


@dataclass(frozen=True)
class Limits:
    """None: this server has no such limit."""

    idle: timedelta | None = None
    ends_at: datetime | None = None
    """Whatever runs."""
    warning: timedelta = timedelta(0)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Limits:
        """What cannot be read counts as no limit: it is the hub that ends servers, not this."""
        try:
            idle, ends_at = environ.get("AIAAS_IDLE_SECONDS"), environ.get("AIAAS_ENDS_AT")
            return cls(
                None if not idle else timedelta(seconds=float(idle)),
                None if not ends_at else datetime.fromisoformat(ends_at),
                timedelta(seconds=float(environ.get("AIAAS_WARN_SECONDS") or 0)),
            )
        except ValueError:
            return cls()

    def end(self, last_activity: datetime) -> End | None:
        """Which comes first, if nothing more is done here."""
        ends = []
        if self.idle is not None:
            # Told for half of a short limit at most: else it would be told all the time.
            ends.append(End(last_activity + self.idle, "idle", min(self.warning, self.idle / 2)))
        if self.ends_at is not None:
            ends.append(End(self.ends_at, "lifetime", self.warning))
        return min(ends, key=lambda end: end.at, default=None)


@dataclass(frozen=True)
class End:
    at: datetime
    why: Literal["idle", "lifetime"]
    warning: timedelta
    """How long before it people are told."""

    def left(self, now: datetime) -> timedelta:
        return max(self.at - now, timedelta(0))


def ending_text(limits: Limits, now: datetime | None = None) -> str:
    """For who works here; empty: it goes on until somebody stops it."""
    said = []
    if limits.ends_at is not None:
        left = max(limits.ends_at - (now or datetime.now(UTC)), timedelta(0))
        said.append(f"in {_words(left)} ({limits.ends_at:%H:%M} UTC), whatever runs in it")
    if limits.idle is not None:
        said.append(f"when nobody has worked in it for {_words(limits.idle)}")
    return f"is stopped {', or '.join(said)}; runs go on" if said else ""


def _words(time: timedelta) -> str:
    minutes = round(time.total_seconds() / 60)
    if minutes < 1:
        return "less than a minute"
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
