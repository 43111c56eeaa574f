"""A list that is kept is the list as it is: whatever changes, whoever asks, whenever they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from aiaas_hub.adapters.records import dataset_pages
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.datasets import SqlBlobGrants, SqlDatasetRecords
from aiaas_hub.adapters.records.page_cache import PageCache
from aiaas_hub.domain.dataset_records import DatasetFilter
from aiaas_hub.domain.search import words_of
from aiaas_hub.schemas.datasets import Column, DatasetUpdate, DatasetVersion

NOW = datetime.now(UTC)


@pytest.fixture
def database(records_url: str) -> Iterator[Database]:
    database = Database(records_url)
    database.migrate()
    yield database
    database.close()


def version(number: int) -> DatasetVersion:
    return DatasetVersion(
        version=1,
        created_at=NOW,
        format="parquet",
        digest=f"{number:064}",
        size=1,
        rows=1,
        columns=[Column(name="x", type="int64")],
        source="upload",
    )


def test_every_change_shows_at_once(database: Database) -> None:
    records = SqlDatasetRecords(database)
    records.add_version("ada", "sales", "", version(0), None)
    bob = DatasetFilter("bob", groups=frozenset({"team"}))
    asked = [
        DatasetFilter("ada"),
        DatasetFilter("ada", owner="ada", reads_owner=True),
        DatasetFilter("ada", pattern="s*"),
        DatasetFilter("ada", words=words_of("rain")),
        DatasetFilter("bob"),
        bob,
    ]

    def shown() -> list[Any]:
        pages = [records.page(which, None, 5) for which in asked]
        with database.reading() as session:
            afresh = [dataset_pages.page(session, which, None, 5) for which in asked]
        assert pages == afresh
        return pages

    changes: list[Callable[[], Any]] = [
        lambda: records.add_version("ada", "sales", "", version(1), None),
        lambda: records.update("ada", "sales", DatasetUpdate(description="Rain.")),
        lambda: records.update("ada", "sales", DatasetUpdate(visibility="group", group="team")),
        lambda: records.update("ada", "sales", DatasetUpdate(visibility="everyone")),
        lambda: records.set_tag("ada", "sales", "golden", 2),
        lambda: records.set_tag("ada", "sales", "golden", None),
        lambda: records.retire("ada", "sales", 2, NOW),
        lambda: records.retire("ada", "sales", 2, None),
    ]
    for change in changes:
        before = shown()
        assert shown() == before
        change()
        assert shown() != before


def test_what_changes_no_dataset_or_is_undone_keeps_the_pages(database: Database) -> None:
    records = SqlDatasetRecords(database)
    records.add_version("ada", "sales", "", version(0), None)
    kept = records.page(DatasetFilter("ada"), None, 5)
    SqlBlobGrants(database).grant("ada", "0" * 64)
    with suppress(ZeroDivisionError), database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE datasets SET description = 'undone'")
        raise ZeroDivisionError
    SqlBlobGrants(database).grant("ada", "1" * 64)
    assert records.page(DatasetFilter("ada"), None, 5) is kept
    assert kept.items[0].description == ""


def test_a_page_that_is_read_while_something_changes_is_not_kept() -> None:
    changes = 0
    cache: PageCache[str] = PageCache(lambda: changes, most=2)

    def read() -> str:
        nonlocal changes
        changes += 1  # meanwhile
        return "old"

    assert cache.get("a", read) == "old"
    assert cache.get("a", lambda: "new") == "new"
    assert cache.get("a", lambda: "newer") == "new"
    for key in "bc":
        cache.get(key, lambda: "other")
    assert cache.get("a", lambda: "again") == "again", "of three, two are kept"
