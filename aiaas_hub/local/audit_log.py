"""`aiaas audit`: the log read from the records themselves, whether the platform runs or not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiaas_hub.adapters.records.audit import SqlAuditRecords
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.config import read_config
from aiaas_hub.domain.auditing import Head, entries, verify
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import InvalidInput, NotFound


def verify_audit(home: Home, head: str | None, say: Callable[[str], None]) -> int:
    """0: whole; 1: not. Says the head, to be kept where whoever may write the records may not."""
    anchor = None if head is None else _parse(head)
    with _records(home) as records:
        found = verify(records, anchor)
    if found.problem:
        say(f"The audit log is NOT whole. {found.problem} Sound up to {found.head}")
        return 1
    say(f"The audit log is whole: {found.head.number} entries. Head: {found.head}")
    return 0


def export_audit(home: Home, since: int, say: Callable[[str], None]) -> int:
    head = ""
    with _records(home) as records:
        for entry in entries(records, since):
            say(entry.model_dump_json())
            head = f"{entry.number}:{entry.hash}"
    print(f"Head: {head or 'no entries'}", file=sys.stderr)  # noqa: T201 - beside the lines
    return 0


def _parse(text: str) -> Head:
    match = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
    if match is None:
        raise InvalidInput(
            f"{text!r} is no head.", remedy="Give what `aiaas audit verify` printed."
        )
    return Head(int(match[1]), match[2])


@contextmanager
def _records(home: Home) -> Iterator[SqlAuditRecords]:
    config = read_config(home)
    if config.records_url == home.records_url and not (home.root / "records.sqlite").exists():
        raise NotFound(f"There is no platform in {home.root}.", remedy="Set AIAAS_HOME.")
    database = Database(config.records_url)
    try:
        database.migrate()
        yield SqlAuditRecords(database)
    finally:
        database.close()
