"""Datasets: immutable numbered versions of tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiaas_hub.domain.access import Asker
from aiaas_hub.domain.data_ports import BlobStore, Tables
from aiaas_hub.domain.dataset_records import DatasetFilter, DatasetRecords
from aiaas_hub.domain.search import words_of
from aiaas_hub.schemas.datasets import (
    LATEST,
    Dataset,
    DatasetUpdate,
    DatasetVersion,
    Format,
    Origin,
    Preview,
    check_tag,
    parse_dataset_reference,
)
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound
from aiaas_hub.schemas.names import check_name
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.queries import Engine
from aiaas_hub.schemas.runs import PinnedDataset

MAX_PREVIEW_ROWS = 1000

MayRead = Callable[[str], bool]
"""Whether whoever asks may read this owner's objects."""


class Datasets:
    def __init__(
        self, records: DatasetRecords, blobs: BlobStore, tables: Tables, max_bytes: int
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._tables = tables
        self.max_bytes = max_bytes
        """Of one version's file."""

    def page(
        self,
        asker: Asker,
        owner: str | None,
        pattern: str,
        search: str,
        cursor: str | None,
        limit: int,
    ) -> Page[Dataset]:
        """Of those that the asker may read. Raises `NotFound` for an owner who has none."""
        which = DatasetFilter(
            user=asker.user,
            groups=asker.groups,
            owner=owner,
            reads_owner=owner is not None and asker.may_read(owner),
            pattern=pattern,
            words=words_of(search),
        )
        page = self._records.page(which, cursor, limit)
        if owner is not None and not which.reads_owner and not page.items and cursor is None:
            raise NotFound("There is no such object.", remedy="Check owner and name.")
        return page

    def get(self, owner: str, name: str, asker: Asker, version: int | str | None = None) -> Dataset:
        """Raises `NotFound`: absent, somebody else's and retired look the same."""
        found = self._records.get(owner, name, version)
        if found is None or not readable(found, asker) or found.latest.retired:
            raise _absent(name, version)
        return found

    def find(self, pinned: PinnedDataset, asker: Asker) -> DatasetVersion | None:
        """An exact version, a retired one too; None if it is not the asker's to read."""
        found = self._records.get(pinned.owner, pinned.name, pinned.version)
        return None if found is None or not readable(found, asker) else found.latest

    def versions(
        self, owner: str, name: str, asker: Asker, cursor: str | None, limit: int
    ) -> Page[DatasetVersion]:
        """Newest first, the retired ones too: their numbers are never given again."""
        self.get(owner, name, asker)
        return self._records.versions(owner, name, cursor, limit)

    def update(self, owner: str, name: str, change: DatasetUpdate, asker: Asker) -> Dataset:
        """Raises `InvalidInput` for a group that the asker is not in."""
        self.get(owner, name, asker)
        if (change.visibility == "group") != (change.group is not None):
            raise InvalidInput(
                "A group goes with sharing with a group.",
                remedy="Say which: --share group:NAME.",
            )
        if change.group is not None and change.group not in asker.groups:
            raise InvalidInput(
                f"You are in no group {change.group!r}.",
                remedy=f"Your groups: {', '.join(sorted(asker.groups)) or 'none'}.",
            )
        if any(not tag.strip() or "," in tag for tag in change.tags or ()):
            raise InvalidInput("A tag has letters and no comma.", remedy="Write --tags a,b.")
        updated = self._records.update(owner, name, change)
        if updated is None:
            raise _absent(name)
        return updated

    def tag(self, owner: str, name: str, tag: str, version: int, asker: Asker) -> Dataset:
        """Give a version a name of its own, taking it from whichever had it."""
        self.get(owner, name, asker, version)
        if check_tag(tag) == LATEST:
            raise InvalidInput(
                f"{LATEST} is always the newest version.", remedy="Choose another tag."
            )
        if not self._records.set_tag(owner, name, tag, version):
            raise _absent(name, version)
        return self.get(owner, name, asker, version)

    def untag(self, owner: str, name: str, tag: str, asker: Asker) -> Dataset:
        self.get(owner, name, asker)
        if not self._records.set_tag(owner, name, tag, None):
            raise _absent(name, tag)
        return self.get(owner, name, asker)

    def retire(self, owner: str, name: str, version: int, retired: bool) -> DatasetVersion:
        """Take a version out of use, or back into it while its content is still there."""
        found = self._records.get(owner, name, version)
        if found is None:
            raise _absent(name, version)
        at = datetime.now(UTC) if retired else None
        changed = self._records.retire(owner, name, version, at)
        if changed is None:
            raise Conflict(
                f"The content of {name}@{version} is deleted.",
                remedy="Store the data again, as a new version.",
            )
        return changed

    def resolve(self, references: Sequence[str], owner: str, asker: Asker) -> list[PinnedDataset]:
        """The exact versions that `references` mean now; raises `NotFound` for one that is
        absent or not the asker's to read."""
        pinned = []
        for text in references:
            reference = parse_dataset_reference(text)
            of = reference.owner or owner
            dataset = self.get(of, reference.name, asker, reference.version)
            pinned.append(
                PinnedDataset(owner=of, name=reference.name, version=dataset.latest.version)
            )
        return pinned

    def require_readable(self, pinned: Sequence[PinnedDataset], owner: str, asker: Asker) -> None:
        """Raise `NotFound` for a version that is neither the owner's nor readable, now. One that
        was retired meanwhile is: a run keeps what it refers to."""
        for one in pinned:
            found = self._records.get(one.owner, one.name, one.version)
            if one.owner != owner and (found is None or not readable(found, asker)):
                raise _absent(one.name)

    def add_query_result(
        self,
        owner: str,
        name: str,
        digest: str,
        sql: str,
        engine: Engine,
        inputs: Sequence[PinnedDataset],
        by: str,
        description: str,
        idempotency_key: str | None,
    ) -> Dataset:
        check_name(name)
        origin = Origin(kind="query", by=by, sql=sql, engine=engine, inputs=list(inputs))
        return self.add(
            owner, name, digest, "parquet", "query", origin, description, idempotency_key
        )

    def add_made(
        self, owner: str, contents: Mapping[str, str], origin: Origin, idempotency_key: str
    ) -> list[Dataset]:
        """Versions of several datasets, name → digest: all of them or none."""
        return self._records.add_versions(
            owner,
            {
                name: self._described(digest, "parquet", "run", origin)
                for name, digest in contents.items()
            },
            idempotency_key,
        )

    def add(
        self,
        owner: str,
        name: str,
        digest: str,
        format_: Format,
        source: str,
        origin: Origin,
        description: str,
        idempotency_key: str | None,
    ) -> Dataset:
        version = self._described(digest, format_, source, origin)
        return self._records.add_version(owner, name, description, version, idempotency_key)

    def _described(
        self, digest: str, format_: Format, source: str, origin: Origin
    ) -> DatasetVersion:
        """A version of this content; its number is given when it is added."""
        if not self._blobs.keep(digest):
            raise NotFound("There is no such upload.", remedy="Upload the data again.")
        parquet = self._blobs.local_path(digest)
        described = self._tables.describe(parquet)
        return DatasetVersion(
            version=1,
            created_at=datetime.now(UTC),
            format=format_,
            digest=digest,
            size=parquet.stat().st_size,
            rows=described.rows,
            columns=list(described.columns),
            source=source,
            origin=origin,
        )

    def preview(
        self, dataset: Dataset, columns: Sequence[str] | None, n: int, offset: int
    ) -> Preview:
        """Rows in the order in which they are stored."""
        latest = dataset.latest
        rows = self._tables.rows(self._blobs.local_path(latest.digest), columns, n, offset)
        by_name = {column.name: column for column in latest.columns}
        shown = latest.columns if columns is None else [by_name[name] for name in columns]
        return Preview(
            columns=list(shown),
            rows=rows,
            total_rows=latest.rows,
            offset=offset,
            truncated=offset + len(rows) < latest.rows,
        )

    def content(self, pinned: PinnedDataset) -> str:
        """Digest of the version's Parquet blob, for who was let read it before."""
        found = self._records.get(pinned.owner, pinned.name, pinned.version)
        if found is None:
            raise _absent(pinned.name, pinned.version)
        return found.latest.digest

    def select(
        self, digest: str, columns: Sequence[str] | None, limit: int | None, target: Path
    ) -> None:
        self._tables.select(self._blobs.local_path(digest), columns, limit, target)


def readable(dataset: Dataset, asker: Asker) -> bool:
    """The one rule of who may read a dataset: its owner, whom the hub lets read the owner's
    objects, and whom the owner shares it with."""
    if asker.may_read(dataset.owner):
        return True
    if not asker.may_read(asker.user):
        # A token that may not even read its own user's.
        return False
    if dataset.visibility == "group":
        return dataset.group in asker.groups
    return dataset.visibility == "everyone"


def require_page(rows: int, offset: int) -> None:
    """Raise `InvalidInput` for a page that nobody can be shown."""
    if not 1 <= rows <= MAX_PREVIEW_ROWS:
        raise InvalidInput(
            f"A preview has 1 to {MAX_PREVIEW_ROWS} rows.",
            remedy="Load the dataset for more: %aiaas load NAME.",
        )
    if offset < 0:
        raise InvalidInput("An offset is at least 0.", remedy="Count from 0.")


def _absent(name: str, version: int | str | None = None) -> NotFound:
    wanted = name if version is None else f"{name}@{version}"
    return NotFound(f"There is no dataset {wanted}.", remedy="See %aiaas datasets.")
