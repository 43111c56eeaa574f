"""What the domain asks of the records of datasets; see `records` for what holds of each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aiaas_hub.domain.search import Word
from aiaas_hub.schemas.datasets import Dataset, DatasetUpdate, DatasetVersion
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.profiles import Profile, ProfileStatus


@dataclass(frozen=True)
class DatasetFilter:
    """Which datasets to list: of those that who asks may read, these."""

    user: str
    """Who asks."""
    groups: frozenset[str] = frozenset()
    owner: str | None = None
    """None: of whomever."""
    reads_owner: bool = False
    """Whether they may read all that `owner` has."""
    pattern: str = ""
    """On the name, with `*` and `?`; empty matches everything."""
    words: Sequence[Word] = ()


class DatasetRecords(Protocol):
    """`version` is a number, a tag, or None for the newest that is not retired."""

    def get(self, owner: str, name: str, version: int | str | None = None) -> Dataset | None:
        """A retired version is given, too; its content may be gone."""

    def page(self, which: DatasetFilter, cursor: str | None, limit: int) -> Page[Dataset]:
        """Newest first."""

    def versions(
        self, owner: str, name: str, cursor: str | None, limit: int
    ) -> Page[DatasetVersion]:
        """Newest first, with the retired ones."""

    def add_version(
        self,
        owner: str,
        name: str,
        description: str,
        version: DatasetVersion,
        idempotency_key: str | None,
    ) -> Dataset:
        """Append a version (its number is assigned here). Content that the newest version has
        already gives that version again, and so does a key that was given before."""

    def add_versions(
        self, owner: str, versions: Mapping[str, DatasetVersion], idempotency_key: str
    ) -> list[Dataset]:
        """The same for several datasets, by name: all of them or none."""

    def update(self, owner: str, name: str, change: DatasetUpdate) -> Dataset | None: ...

    def set_tag(self, owner: str, name: str, tag: str, version: int | None) -> bool:
        """Give a version this tag, which another one may have had; None takes it away. False
        where there is no such version, or it is retired, or there was no such tag."""

    def retire(
        self, owner: str, name: str, version: int, at: datetime | None
    ) -> DatasetVersion | None:
        """Retire a version and take its tags away; None takes it back. None where there is none,
        or its content is being deleted."""


@dataclass(frozen=True)
class RetiredVersion:
    owner: str
    name: str
    version: int
    digest: str


class GarbageRecords(Protocol):
    """Versions whose content may go."""

    def retired(self, before: datetime) -> Sequence[RetiredVersion]:
        """Retired before then, and not collected."""

    def collect(self, version: RetiredVersion, now: datetime) -> bool:
        """Write the intent to delete its content, and forget who uploaded it, unless a run (and
        so its model) refers to the version; whether that is so now."""

    def collected(self, limit: int) -> Sequence[RetiredVersion]:
        """Those whose content is still to be deleted."""

    def in_use(self, digest: str) -> bool:
        """Whether anything else is of this content."""

    def removed(self, version: RetiredVersion, now: datetime) -> None: ...


class ProfileRecords(Protocol):
    def get(self, owner: str, name: str, version: int) -> ProfileStatus | None: ...

    def request(
        self, owner: str, name: str, version: int, total: int, now: datetime
    ) -> ProfileStatus:
        """Queue the profile of a version with `total` columns, if it is neither done nor on its
        way."""

    def next(self) -> tuple[Dataset, int] | None:
        """The oldest one that is not over, and how often it was begun."""

    def begin(self, owner: str, name: str, version: int) -> None: ...

    def progress(self, owner: str, name: str, version: int, done: int) -> None: ...

    def finish(self, owner: str, name: str, version: int, profile: Profile) -> None: ...

    def fail(self, owner: str, name: str, version: int, error: str) -> None: ...
