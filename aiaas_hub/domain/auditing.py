"""The audit log's chain.

Each entry's `hash` is the SHA-256 of its other fields, as JSON (RFC 8259) with sorted keys and no
spaces; `previous`, the hash of the entry before it, is one of them. So nothing can be changed,
taken out or put in without changing every later hash. That the last entries were cut off, or all
of them made anew, shows against a head (number and hash) that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from aiaas_hub.schemas.audit import AuditEntry, Outcome, Via
from aiaas_hub.schemas.paging import Page

GENESIS = "0" * 64
"""`previous` of the first entry."""
MAX_TEXT = 300
"""Characters of one field: what a request names may be of any length."""


@dataclass(frozen=True)
class Act:
    """What an entry is made of; number, time and hashes are the records' to give."""

    actor: str
    via: Via
    act: str
    object: str
    outcome: Outcome
    owner: str = ""
    request_id: str = ""
    origin: str = ""
    detail: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditFilter:
    """Which entries to list; None: any."""

    owner: str | None = None
    actor: str | None = None
    act: str | None = None
    object: str | None = None
    """Its beginning: `runs/` finds what was done to any run."""
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditRecords(Protocol):
    """Append only. Writers wait for each other: the chain has no forks."""

    def append(self, act: Act, *, once: bool = False) -> AuditEntry | None:
        """Add an entry. With `once` nothing is added, and None given, if one of this request and
        act is there already. Raises `Unavailable` where it cannot be written: what was to be
        recorded must then not happen."""

    def page(self, which: AuditFilter, cursor: str | None, limit: int) -> Page[AuditEntry]:
        """Newest first."""

    def following(self, number: int, limit: int) -> Sequence[AuditEntry]:
        """Entries after this number, oldest first."""


@dataclass(frozen=True)
class Head:
    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


@dataclass(frozen=True)
class Finding:
    """What reading the whole chain found."""

    head: Head
    """Of what is sound."""
    problem: str = ""
    """One sentence; empty: the chain is whole."""


def plain(text: str) -> str:
    """Text that any database keeps and no terminal obeys."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 1] + "…"


def make_entry(act: Act, previous: Head, at: datetime) -> AuditEntry:
    """The entry that follows `previous`."""
    entry = AuditEntry(
        number=previous.number + 1,
        at=at.astimezone(UTC),
        actor=plain(act.actor),
        via=act.via,
        act=plain(act.act),
        object=plain(act.object),
        owner=plain(act.owner),
        outcome=act.outcome,
        request_id=plain(act.request_id),
        origin=plain(act.origin),
        detail={
            plain(name): plain(value) if isinstance(value, str) else value
            for name, value in act.detail.items()
        },
        previous=previous.hash,
        hash="",
    )
    return entry.model_copy(update={"hash": hash_of(entry)})


def hash_of(entry: AuditEntry) -> str:
    fields = entry.model_dump(mode="json", exclude={"hash", "at"})
    # One way to write a moment, whatever the database made of it.
    fields["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def entries(records: AuditRecords, since: int = 0, block: int = 1000) -> Iterable[AuditEntry]:
    """All entries after a number, oldest first, read block by block."""
    while found := records.following(since, block):
        yield from found
        since = found[-1].number


def without_beginnings(
    shown: Sequence[AuditEntry], later: Iterable[AuditEntry] = ()
) -> list[AuditEntry]:
    """The entries less those that say that something begins whose end is among them, or among
    `later` ones: for who reads what happened, and not how it was recorded."""
    ended = {_of_request(one) for one in (*shown, *later) if one.outcome is not Outcome.BEGUN}
    return [
        one for one in shown if one.outcome is not Outcome.BEGUN or _of_request(one) not in ended
    ]


def _of_request(entry: AuditEntry) -> tuple[str, str]:
    return entry.request_id, entry.act


def verify(records: AuditRecords, anchor: Head | None = None) -> Finding:
    """Read the chain from its beginning. `anchor` is a head that was kept elsewhere."""
    head = Head(0, GENESIS)
    for entry in entries(records):
        problem = _wrong(entry, head)
        if problem:
            return Finding(head, problem)
        head = Head(entry.number, entry.hash)
        if anchor is not None and anchor.number == head.number and anchor.hash != head.hash:
            return Finding(head, f"Entry {head.number} is not the one that your head names.")
    if anchor is not None and anchor.number > head.number:
        return Finding(
            head, f"It ends at entry {head.number}; your head names entry {anchor.number}."
        )
    return Finding(head)


def _wrong(entry: AuditEntry, before: Head) -> str:
    if entry.number != before.number + 1:
        return f"Entry {before.number + 1} is missing: entry {entry.number} follows."
    if entry.previous != before.hash:
        return f"Entry {entry.number} does not follow from the one before it."
    if entry.hash != hash_of(entry):
        return f"Entry {entry.number} was changed."
    return ""
