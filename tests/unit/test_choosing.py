"""Whether a profile that was chosen may be had, as both spawners ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from tornado import web

from aiaas_hub.schemas.usage import Allowance
from aiaas_hub.spawner import choosing
from aiaas_hub.spawner.profiles import Capacity, Offer, Profiles, offers

SIZE = {"description": "For a start.", "cpus": 1, "memory": "1G"}
PROFILES = Profiles.model_validate(
    {
        "profiles": [
            {**SIZE, "slug": "small", "name": "Small", "default": True},
            {**SIZE, "slug": "gpu", "name": "GPU", "gpus": 1},
        ]
    }
)
LOG = logging.getLogger(__name__)
MONTH = datetime(2026, 12, 1, tzinfo=UTC)


@dataclass
class Spawner:
    user: Any = None
    log: Any = LOG
    service_api_url: str = "http://127.0.0.1:1"

    def offers(self) -> Sequence[Offer]:
        return offers(PROFILES, Capacity(gpus=1, free_gpus=1))


def hours(used: float) -> list[Allowance]:
    return [Allowance(name="GPU-hours", used=used, limit=10, renews_at=MONTH)]


def choose(
    monkeypatch: pytest.MonkeyPatch,
    left: list[Allowance] | None,
    options: Mapping[str, Any],
    spawner: Spawner | None = None,
) -> str:
    """The slug of the profile, where the service says that this is left."""

    async def answer(user: Any, url: str) -> list[Allowance] | None:
        return left

    monkeypatch.setattr(choosing, "quota_left", answer)
    return asyncio.run(choosing.chosen(spawner or Spawner(), options)).profile.slug


def test_gpus_are_for_whom_hours_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, hours(9.5), {"profile": "gpu"}) == "gpu"
    with pytest.raises(web.HTTPError) as refused:
        choose(monkeypatch, hours(10), {"profile": "gpu"})
    assert refused.value.status_code == 403
    assert "You have used 10 of 10 GPU-hours. They renew on 01 December." in (
        refused.value.jupyterhub_message  # type: ignore[attr-defined] # JupyterHub's convention
    )


def test_nobody_gets_gpus_while_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(web.HTTPError) as refused:
        choose(monkeypatch, None, {"profile": "gpu"})
    assert refused.value.status_code == 503


@pytest.mark.parametrize("left", [None, hours(10)])
def test_a_profile_without_gpus_needs_no_hours(
    monkeypatch: pytest.MonkeyPatch, left: list[Allowance] | None
) -> None:
    assert choose(monkeypatch, left, {"profile": "small"}) == "small"


def test_what_is_not_offered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(web.HTTPError) as refused:
        choose(monkeypatch, hours(0), {"profile": "none-such"})
    assert refused.value.status_code == 403
