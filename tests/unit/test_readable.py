"""The one rule of who may read a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from aiaas_hub.domain.datasets import readable
from aiaas_hub.schemas.datasets import Column, Dataset, DatasetVersion

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Someone:
    user: str
    groups: frozenset[str] = frozenset()
    scope: tuple[str, ...] = ()
    """Whose objects their token lets them read."""

    def may_read(self, owner: str) -> bool:
        return owner in self.scope


def dataset(**sharing: Any) -> Dataset:
    version = DatasetVersion(
        version=1,
        created_at=NOW,
        format="parquet",
        digest="0" * 64,
        size=1,
        rows=1,
        columns=[Column(name="x", type="int64")],
        source="upload",
    )
    return Dataset(owner="ada", name="d", created_at=NOW, updated_at=NOW, latest=version, **sharing)


OWNER = Someone("ada", scope=("ada",))
ADMIN = Someone("root", scope=("root", "ada"))
BOB = Someone("bob", scope=("bob",))
MEMBER = Someone("eve", frozenset({"team"}), ("eve",))
POWERLESS = Someone("bob", frozenset({"team"}))
"""A token that may not even read what its own user has."""


@pytest.mark.parametrize(
    ("sharing", "who"),
    [
        ({}, [OWNER, ADMIN]),
        ({"visibility": "group", "group": "team"}, [OWNER, ADMIN, MEMBER]),
        ({"visibility": "group", "group": None}, [OWNER, ADMIN]),
        ({"visibility": "private", "group": "team"}, [OWNER, ADMIN]),
        ({"visibility": "everyone"}, [OWNER, ADMIN, BOB, MEMBER]),
    ],
)
def test_who_may_read(sharing: dict[str, Any], who: list[Someone]) -> None:
    everyone = [OWNER, ADMIN, BOB, MEMBER, POWERLESS]
    assert [one for one in everyone if readable(dataset(**sharing), one)] == who
