"""The `world` of the API tests, once with each kind of records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import World, serving

from aiaas_hub.home import Home


@pytest.fixture
def world(tmp_path: Path, records_url: str) -> Iterator[World]:
    with serving(Home(tmp_path / "home"), records_url) as made:
        yield made
