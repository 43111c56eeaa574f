"""Datasets: immutable numbered versions of tables."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiaas_hub.domain.access import Asker
from aiaas_hub.domain.ports import BlobStore, Tables
from aiaas_hub.domain.records import BlobGrants, DatasetRecords
from aiaas_hub.schemas.datasets import (
    Dataset,
    DatasetVersion,
    DatasetVersionCreate,
    Format,
    Origin,
    Preview,
)
from aiaas_hub.schemas.errors import InvalidInput, NotFound, NotYet
from aiaas_hub.schemas.names import check_name, parse_reference
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.runs import PinnedDataset

MAX_PREVIEW_ROWS = 1000
_FORMATS: dict[str, Format] = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv"}

MayRead = Callable[[str], bool]
"""Whether whoever asks may read this owner's objects."""


@dataclass(frozen=True)
class DatasetLimits:
    max_bytes: int
    roots: Callable[[str], Sequence[Path]]
    """Directories from which this owner may register files."""


class Datasets:
    def __init__(
        self,
        records: DatasetRecords,
        blobs: BlobStore,
        grants: BlobGrants,
        tables: Tables,
        limits: DatasetLimits,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._grants = grants
        self._tables = tables
        self._limits = limits

    def page(self, owner: str, pattern: str, cursor: str | None, limit: int) -> Page[Dataset]:
        return self._records.page(owner, pattern, cursor, limit)

    def get(self, owner: str, name: str, version: int | None = None) -> Dataset:
        """Raises `NotFound`."""
        found = self._records.get(owner, name, version)
        if found is None:
            wanted = f"{name}@{version}" if version else name
            raise NotFound(f"There is no dataset {wanted}.", remedy="See %aiaas datasets.")
        return found

    @property
    def max_bytes(self) -> int:
        """Of one version's file."""
        return self._limits.max_bytes

    def resolve(self, references: Sequence[str], owner: str, asker: Asker) -> list[PinnedDataset]:
        """The exact versions that `references` mean now; raises `NotFound` for one that is
        absent or somebody else's."""
        pinned = []
        for text in references:
            reference = parse_reference(text)
            of = reference.owner or owner
            if not asker.may_read(of):
                raise _absent(reference.name)
            dataset = self.get(of, reference.name, reference.version)
            pinned.append(
                PinnedDataset(owner=of, name=reference.name, version=dataset.latest.version)
            )
        return pinned

    @staticmethod
    def require_readable(pinned: Sequence[PinnedDataset], owner: str, asker: Asker) -> None:
        """Raise `NotFound` for a version that is neither the owner's nor readable, now."""
        for dataset in pinned:
            if dataset.owner != owner and not asker.may_read(dataset.owner):
                raise _absent(dataset.name)

    def create_version(
        self,
        owner: str,
        name: str,
        request: DatasetVersionCreate,
        *,
        uploader: str,
        idempotency_key: str | None,
    ) -> Dataset:
        """Add a version from an uploaded blob or a file; the same content changes nothing."""
        check_name(name)
        if (request.blob is None) == (request.uri is None):
            raise InvalidInput("Give one of an uploaded blob, a URI and a query.")
        origin = Origin(kind="upload", by=uploader)
        if request.blob is not None:
            if not self._grants.granted(uploader, request.blob):
                raise NotFound("There is no such upload.", remedy="Upload the data again.")
            digest, source, format_ = request.blob, "upload", request.format or "parquet"
            if format_ != "parquet":
                digest = self._convert(self._blobs.local_path(digest), format_)
        else:
            assert request.uri is not None  # noqa: S101 - for the type checker; checked above
            path = self._registrable(owner, request.uri)
            format_ = request.format or _format_of(path)
            source = path.as_uri()
            origin = Origin(kind="register", by=uploader, uri=source)
            digest = self._convert(path, format_)
        return self._add(
            owner, name, digest, format_, source, origin, request.description, idempotency_key
        )

    def add_query_result(
        self,
        owner: str,
        name: str,
        digest: str,
        sql: str,
        inputs: Sequence[PinnedDataset],
        by: str,
        description: str,
        idempotency_key: str | None,
    ) -> Dataset:
        check_name(name)
        origin = Origin(kind="query", by=by, sql=sql, inputs=list(inputs))
        return self._add(
            owner, name, digest, "parquet", "query", origin, description, idempotency_key
        )

    def _add(
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
        parquet = self._blobs.local_path(digest)
        described = self._tables.describe(parquet)
        return self._records.add_version(
            owner,
            name,
            description,
            DatasetVersion(
                version=1,
                created_at=datetime.now(UTC),
                format=format_,
                digest=digest,
                size=parquet.stat().st_size,
                rows=described.rows,
                columns=list(described.columns),
                source=source,
                origin=origin,
            ),
            idempotency_key,
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
        """Digest of the version's Parquet blob."""
        return self.get(pinned.owner, pinned.name, pinned.version).latest.digest

    def select(
        self, digest: str, columns: Sequence[str] | None, limit: int | None, target: Path
    ) -> None:
        self._tables.select(self._blobs.local_path(digest), columns, limit, target)

    def _convert(self, source: Path, format_: Format) -> str:
        """Take a file into the store, as Parquet. Copying is what makes a version immutable:
        the file it came from may change afterwards."""
        with tempfile.TemporaryDirectory(prefix="aiaas-register-") as directory:
            parquet = source
            if format_ != "parquet":
                parquet = Path(directory) / "data.parquet"
                self._tables.to_parquet(source, format_, parquet)
            else:
                self._tables.describe(source)
            with parquet.open("rb") as stream:
                digest, _ = self._blobs.put(stream, limit=self._limits.max_bytes)
            return digest

    def _registrable(self, owner: str, uri: str) -> Path:
        """The file that `uri` means, if this owner may register it."""
        parts = urlsplit(uri)
        if parts.scheme not in ("", "file"):
            raise NotYet(
                f"Registering {parts.scheme}:// is not possible yet.",
                remedy="Register a local Parquet or CSV file, or aiaas.datasets.put a DataFrame.",
            )
        if parts.netloc not in ("", "localhost"):
            raise InvalidInput("A file URI names no host.", remedy="Write file:///path/to/file.")
        path = Path(unquote(parts.path) if parts.scheme else uri)
        roots = [root.resolve() for root in self._limits.roots(owner)]
        # Resolved first: neither `..` nor a link may lead out of the allowed directories.
        resolved = (path if path.is_absolute() else roots[0] / path).resolve()
        if not any(resolved.is_relative_to(root) for root in roots):
            raise InvalidInput(
                f"{path} is outside the directories you may register from.",
                remedy="Copy it below your notebook directory, or upload it with "
                "aiaas.datasets.upload(name, path).",
            )
        if not resolved.is_file():
            raise InvalidInput(f"There is no file {path}.", remedy="Check the path.")
        if resolved.stat().st_size > self._limits.max_bytes:
            raise InvalidInput(
                f"{path} is larger than this platform accepts "
                f"({self._limits.max_bytes // 2**20} MiB).",
                remedy="Register a smaller part of it.",
            )
        return resolved


def require_page(rows: int, offset: int) -> None:
    """Raise `InvalidInput` for a page that nobody can be shown."""
    if not 1 <= rows <= MAX_PREVIEW_ROWS:
        raise InvalidInput(
            f"A preview has 1 to {MAX_PREVIEW_ROWS} rows.",
            remedy="Load the dataset for more: %aiaas load NAME.",
        )
    if offset < 0:
        raise InvalidInput("An offset is at least 0.", remedy="Count from 0.")


def _absent(name: str) -> NotFound:
    return NotFound(f"There is no dataset {name}.", remedy="See %aiaas datasets.")


def _format_of(path: Path) -> Format:
    format_ = _FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise InvalidInput(
            f"The format of {path.name} cannot be told from its name.",
            remedy="Say it: --format parquet or --format csv.",
        )
    return format_
