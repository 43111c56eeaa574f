"""Data from outside becomes a version: uploads, and files where they lie."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiaas_hub.domain.data_ports import (
    BlobStore,
    Credentials,
    QueryEngine,
    Reading,
    RemoteFiles,
    Tables,
)
from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.records import BlobGrants
from aiaas_hub.domain.secrets import Secrets
from aiaas_hub.schemas.datasets import (
    TABLE_FORMATS,
    Dataset,
    DatasetVersionCreate,
    Format,
    Origin,
    detect_format,
)
from aiaas_hub.schemas.errors import InvalidInput, NotFound, TooLarge
from aiaas_hub.schemas.names import check_name


@dataclass(frozen=True)
class DatasetLimits:
    max_bytes: int
    roots: Callable[[str], Sequence[Path]]
    """Directories from which this owner may register files."""


class Bringing:
    def __init__(
        self,
        datasets: Datasets,
        blobs: BlobStore,
        grants: BlobGrants,
        tables: Tables,
        engine: QueryEngine,
        remote: RemoteFiles,
        secrets: Secrets,
        limits: DatasetLimits,
    ) -> None:
        self._datasets = datasets
        self._blobs = blobs
        self._grants = grants
        self._tables = tables
        self._engine = engine
        self._remote = remote
        self._secrets = secrets
        self._limits = limits

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
        if request.secret is not None and request.uri is None:
            raise InvalidInput(
                "A secret goes with an address elsewhere.", remedy="Leave --secret out."
            )
        origin = Origin(kind="upload", by=uploader)
        if request.blob is not None:
            if not self._grants.granted(uploader, request.blob):
                raise NotFound("There is no such upload.", remedy="Upload the data again.")
            digest, source, format_ = request.blob, "upload", request.format or "parquet"
            if format_ in TABLE_FORMATS:
                raise InvalidInput(
                    "A table is a folder of files, and an upload is one file.",
                    remedy="Register the folder: %aiaas register NAME FOLDER.",
                )
            reading = _reading(request, format_)
            if format_ != "parquet":
                digest, _ = self._convert(self._blobs.local_path(digest), reading)
        else:
            assert request.uri is not None  # noqa: S101 - for the type checker; checked above
            source, reading, digest = self._register(owner, request.uri, request, uploader)
            format_ = reading.format
            origin = Origin(
                kind="register", by=uploader, uri=source, snapshot=reading.snapshot or None
            )
        return self._datasets.add(
            owner, name, digest, format_, source, origin, request.description, idempotency_key
        )

    def _register(
        self, owner: str, uri: str, request: DatasetVersionCreate, uploader: str
    ) -> tuple[str, Reading, str]:
        """Where it is, as what it was read, and the digest of its copy. Copying is what makes a
        version immutable: what it came from may change afterwards."""
        parts = urlsplit(uri)
        if parts.scheme.lower() in ("", "file"):
            if request.secret is not None:
                raise InvalidInput(
                    "A secret goes with an address elsewhere.", remedy="Leave --secret out."
                )
            path = self._registrable(owner, uri)
            reading = _reading(request, request.format or _format_of(path))
            if path.is_dir() and reading.format not in TABLE_FORMATS:
                raise InvalidInput(
                    f"{path} is the folder of a table, not a file.", remedy="Leave --format out."
                )
            digest, snapshot = self._convert(path, reading)
            return path.as_uri(), replace(reading, snapshot=snapshot), digest
        credentials = None
        if request.secret is not None:
            # Of whoever asks, also where an administrator brings data for somebody.
            credentials = self._secrets.credentials(uploader, request.secret, parts.scheme.lower())
        format_ = request.format or self._remote.table_format(uri, credentials)
        reading = _reading(request, format_)
        with tempfile.TemporaryDirectory(prefix="aiaas-register-") as text:
            directory = Path(text)
            if reading.format in TABLE_FORMATS:
                self._remote.fetch_tree(uri, directory, self._limits.max_bytes, credentials)
                digest, snapshot = self._convert(directory, reading)
                reading = replace(reading, snapshot=snapshot)
            else:
                reading, digest = self._fetched(uri, directory, request, credentials)
        # Of Azure's addresses the container stands where others have a user and a password.
        host = parts.netloc if parts.scheme == "abfss" else parts.hostname or ""
        # Without its query: a signed address is a credential.
        return f"{parts.scheme}://{host}{parts.path}", reading, digest

    def _fetched(
        self,
        uri: str,
        directory: Path,
        request: DatasetVersionCreate,
        credentials: Credentials | None,
    ) -> tuple[Reading, str]:
        files = self._remote.fetch(uri, directory, self._limits.max_bytes, credentials)
        reading = _reading(request, request.format or _format_of(files[0]))
        if len(files) == 1:
            return reading, self._convert(files[0], reading)[0]
        pieces = [self._as_parquet(f, reading, f.with_suffix(".piece"))[0] for f in files]
        self._tables.concatenate(pieces, directory / "whole.parquet")
        return reading, self._convert(directory / "whole.parquet", Reading("parquet"))[0]

    def _convert(self, source: Path, reading: Reading) -> tuple[str, str]:
        """Take a file or table into the store, as Parquet: its digest, and a table's version."""
        with tempfile.TemporaryDirectory(prefix="aiaas-register-") as directory:
            parquet, snapshot = self._as_parquet(source, reading, Path(directory) / "data.parquet")
            with parquet.open("rb") as stream:
                digest, _ = self._blobs.put(stream, limit=self._limits.max_bytes)
            return digest, snapshot

    def _as_parquet(self, source: Path, reading: Reading, target: Path) -> tuple[Path, str]:
        if reading.format == "parquet":
            self._tables.describe(source)
            return source, ""
        # A file that somebody made to be read wrongly is read where it does no harm.
        with self._engine.session() as session:
            converted = session.convert(source, reading, target, self._limits.max_bytes)
        if not converted.whole:
            raise TooLarge(
                "As Parquet the file is larger than this platform accepts "
                f"({self._limits.max_bytes // 2**20} MiB).",
                remedy="Store a smaller part of it.",
            )
        return target, converted.snapshot

    def _registrable(self, owner: str, uri: str) -> Path:
        """The file that `uri` means, if this owner may register it."""
        parts = urlsplit(uri)
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
        if resolved.is_dir() and table_format_of(resolved) is not None:
            # Of its files only those of one version count, and those are measured when read.
            return resolved
        if not resolved.is_file():
            raise InvalidInput(f"There is no file {path}.", remedy="Check the path.")
        if resolved.stat().st_size > self._limits.max_bytes:
            raise InvalidInput(
                f"{path} is larger than this platform accepts "
                f"({self._limits.max_bytes // 2**20} MiB).",
                remedy="Register a smaller part of it.",
            )
        return resolved


def _reading(request: DatasetVersionCreate, format_: Format | None) -> Reading:
    """Raises `InvalidInput` for what this format does not have."""
    if request.types and format_ not in (None, "csv", "jsonl"):
        raise InvalidInput(
            f"A file of the format {format_} says itself what its types are.",
            remedy="Leave --schema out, and CAST in a query: %%aiaas sql --save NAME.",
        )
    if request.snapshot is not None and format_ not in TABLE_FORMATS:
        raise InvalidInput(
            "Only a Delta or Iceberg table has versions of its own.",
            remedy="Leave --snapshot out.",
        )
    return Reading(format_ or "parquet", request.types, request.snapshot)


def _format_of(path: Path) -> Format:
    if path.is_dir():
        table = table_format_of(path)
        assert table is not None  # noqa: S101 - no other folder is registrable
        return table
    with path.open("rb") as file:
        return detect_format(path.name, file.read(8))


def table_format_of(folder: Path) -> Format | None:
    """Of which kind of table this is the folder."""
    if (folder / "_delta_log").is_dir():
        return "delta"
    if any((folder / "metadata").glob("*.metadata.json")):
        return "iceberg"
    return None
