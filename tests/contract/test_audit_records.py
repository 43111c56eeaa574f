"""The audit log's chain, on each kind of database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aiaas_hub.adapters.records.audit import SqlAuditRecords
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.domain.auditing import Act, AuditFilter, Head, verify
from aiaas_hub.schemas.audit import AuditEntry, Outcome, Via

ACT = Act(
    actor="ada",
    via=Via.API,
    act="retire",
    object="endpoints/ada/digits",
    owner="ada",
    outcome=Outcome.DONE,
    request_id="a-request",
    detail={"status": 200},
)
TRIGGERS = ["audit_no_update", "audit_no_delete"]


@pytest.fixture
def database(records_url: str) -> Iterator[Database]:
    database = Database(records_url)
    database.migrate()
    yield database
    database.close()


def tamper(database: Database, statement: str) -> None:
    """What somebody does who owns the database: nothing that it refuses stops them."""
    with database.engine.begin() as connection:
        if database.engine.dialect.name == "sqlite":
            for trigger in TRIGGERS:
                connection.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
        else:
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        connection.execute(text(statement))


def appended(records: SqlAuditRecords, count: int) -> list[AuditEntry]:
    return [entry for _ in range(count) if (entry := records.append(ACT))]


def test_writers_at_once_make_one_chain(database: Database) -> None:
    writers, each = 6, 8
    records = SqlAuditRecords(database)
    threads = [threading.Thread(target=appended, args=(records, each)) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify(records)
    assert not found.problem
    assert found.head.number == writers * each


def test_two_services_make_one_chain(database: Database, records_url: str) -> None:
    """Each with connections of its own, as two processes have them."""
    other = Database(records_url)
    both = [SqlAuditRecords(database), SqlAuditRecords(other)]
    threads = [threading.Thread(target=appended, args=(records, 10)) for records in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    found = verify(both[0])
    assert (found.problem, found.head.number) == ("", 20)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE number = 2", "Entry 2 was changed"),
        ("DELETE FROM audit WHERE number = 2", "Entry 2 is missing"),
        ("DELETE FROM audit WHERE number = 1", "Entry 1 is missing"),
        ("UPDATE audit SET previous = hash WHERE number = 3", "Entry 3 does not follow"),
    ],
)
def test_what_was_changed_shows(database: Database, statement: str, says: str) -> None:
    records = SqlAuditRecords(database)
    appended(records, 4)
    assert not verify(records).problem
    tamper(database, statement)
    assert says in verify(records).problem


def test_what_was_cut_off_or_made_anew_shows_against_a_head(database: Database) -> None:
    records = SqlAuditRecords(database)
    last = appended(records, 3)[-1]
    head = Head(last.number, last.hash)
    assert not verify(records, head).problem
    tamper(database, "DELETE FROM audit WHERE number = 3")
    assert not verify(records).problem  # by itself it is a shorter chain
    assert "ends at entry 2; your head names entry 3" in verify(records, head).problem
    records.append(replace(ACT, actor="eve"))
    assert "Entry 3 is not the one that your head names" in verify(records, head).problem


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit"])
def test_the_database_itself_refuses_changes(database: Database, statement: str) -> None:
    records = SqlAuditRecords(database)
    appended(records, 2)
    with (
        pytest.raises(DBAPIError, match="append-only"),
        database.engine.begin() as connection,
    ):
        connection.execute(text(statement))
    assert not verify(records).problem


def test_once_is_once(database: Database) -> None:
    records = SqlAuditRecords(database)
    assert records.append(ACT, once=True) is not None
    assert records.append(ACT, once=True) is None
    assert records.append(replace(ACT, request_id="another"), once=True) is not None


def test_any_text_is_kept_in_bounds(database: Database) -> None:
    records = SqlAuditRecords(database)
    for nasty in ("\0", "\x1b[31mred", "x" * 10_000, "\ud800", "<'&\">", "日本"):
        entry = records.append(replace(ACT, object=nasty, detail={"id": nasty}))
        assert entry is not None
        assert len(entry.object) <= 300
        assert entry.object.isprintable()
    assert not verify(records).problem


def test_entries_are_found_and_paged(database: Database) -> None:
    records = SqlAuditRecords(database)
    appended(records, 3)
    records.append(replace(ACT, actor="bob", owner="bob", object="runs/run-1"))
    records.append(replace(ACT, object="runs%", outcome=Outcome.REFUSED))

    def numbers(**which: object) -> list[int]:
        page = records.page(AuditFilter(**which), None, 10)  # type: ignore[arg-type]
        return [entry.number for entry in page.items]

    assert numbers() == [5, 4, 3, 2, 1]
    assert numbers(owner="bob") == numbers(actor="bob") == numbers(object="runs/") == [4]
    assert numbers(object="runs%") == numbers(outcome=Outcome.REFUSED) == [5]
    assert numbers(act="nothing") == numbers(until=datetime(2000, 1, 1, tzinfo=UTC)) == []
    first = records.page(AuditFilter(), None, 2)
    assert first.next_cursor is not None
    second = records.page(AuditFilter(), first.next_cursor, 2)
    assert [entry.number for entry in (*first.items, *second.items)] == [5, 4, 3, 2]
