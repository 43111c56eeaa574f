"""When a notebook server is stopped, as it is told to a page, and what keeps it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aiaas_hub.spawner.ending import ending_environment
from aiaas_hub.spawner.profiles import Profile
from aiaas_magics.ending import Limits, ending_text

NOW = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def profile(**limits: str) -> Profile:
    return Profile.model_validate(
        {"slug": "a", "name": "A", "description": "d", "cpus": 1, "memory": "1G", **limits}
    )


def test_what_the_spawner_says_is_what_a_server_reads() -> None:
    told = ending_environment(profile(), NOW, HOUR)
    assert told == {}
    assert ending_text(Limits.from_environment(told), NOW) == ""

    # JupyterHub's own times do not say that they are in UTC.
    began = NOW.replace(tzinfo=None)
    told = ending_environment(profile(max_lifetime="8h", idle_limit="60m"), began, HOUR / 6)
    limits = Limits.from_environment(told)
    assert limits == Limits(HOUR, NOW + 8 * HOUR, HOUR / 6)
    first, last = limits.end(NOW), limits.end(NOW + 7.5 * HOUR)
    assert first is not None
    assert last is not None
    assert (first.why, first.at) == ("idle", NOW + HOUR)
    assert (last.why, last.left(NOW + 7.5 * HOUR)) == ("lifetime", HOUR / 2)
    assert ending_text(limits, NOW + 6.5 * HOUR) == (
        "is stopped in 1 h 30 min (11:00 UTC), whatever runs in it, or when nobody has worked in it"
        " for 1 h; runs go on"
    )


def test_of_a_short_limit_half_is_told() -> None:
    limits = Limits(timedelta(minutes=5), None, timedelta(minutes=10))
    end = limits.end(NOW)
    assert end is not None
    assert end.warning == timedelta(minutes=2.5)


@pytest.mark.parametrize("wrong", [{"AIAAS_IDLE_SECONDS": "soon"}, {"AIAAS_ENDS_AT": "never"}])
def test_what_cannot_be_read_is_no_limit(wrong: dict[str, str]) -> None:
    assert Limits.from_environment(wrong) == Limits()
