"""What a notebook server is told of its own end: its page warns whoever works there.

The hub stops servers (`culling`, the spawners' `poll`); these variables only say when it will.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiaas_hub.spawner.profiles import Profile


def ending_environment(
    profile: Profile, started: datetime | None, warning: timedelta
) -> dict[str, str]:
    """`AIAAS_IDLE_SECONDS`, `AIAAS_ENDS_AT` (ISO 8601) and `AIAAS_WARN_SECONDS`, as far as the
    profile has such limits. `started` is the hub's own moment, in UTC with or without saying so."""
    found = {}
    if profile.idle_limit is not None:
        found["AIAAS_IDLE_SECONDS"] = f"{profile.idle_limit.total_seconds():.0f}"
    if profile.max_lifetime is not None:
        began = datetime.now(UTC) if started is None else started.replace(tzinfo=UTC)
        found["AIAAS_ENDS_AT"] = (began + profile.max_lifetime).isoformat(timespec="seconds")
    if found:
        found["AIAAS_WARN_SECONDS"] = f"{warning.total_seconds():.0f}"
    return found
