"""Data from outside becomes a version: uploads, and files where they lie."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.ports import BlobStore, QueryEngine, RemoteFiles, Tables
from aiaas_hub.domain.records import BlobGrants
from aiaas_hub.schemas.datasets import (
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
        limits: DatasetLimits,
    ) -> None:
        self._datasets = datasets
        self._blobs = blobs
        self._grants = grants
        self._tables = tables
        self._engine = engine
        self._remote = remote
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
        origin = Origin(kind="upload", by=uploader)
        if request.blob is not None:
            if not self._grants.granted(uploader, request.blob):
                raise NotFound("There is no such upload.", remedy="Upload the data again.")
            digest, source, format_ = request.blob, "upload", request.format or "parquet"
            if format_ != "parquet":
                digest = self._convert(self._blobs.local_path(digest), format_)
        else:
            assert request.uri is not None  # noqa: S101 - for the type checker; checked above
            source, format_, digest = self._register(owner, request.uri, request.format)
            origin = Origin(kind="register", by=uploader, uri=source)
        return self._datasets.add(
            owner, name, digest, format_, source, origin, request.description, idempotency_key
        )

    def _register(self, owner: str, uri: str, format_: Format | None) -> tuple[str, Format, str]:
        """Where it is, what it is, and the digest of its copy. Copying is what makes a version
        immutable: what it came from may change afterwards."""
        parts = urlsplit(uri)
        if parts.scheme in ("", "file"):
            path = self._registrable(owner, uri)
            format_ = format_ or _format_of(path)
            return path.as_uri(), format_, self._convert(path, format_)
        with tempfile.TemporaryDirectory(prefix="aiaas-register-") as text:
            directory = Path(text)
            files = self._remote.fetch(uri, directory, self._limits.max_bytes)
            format_ = format_ or _format_of(files[0])
            if len(files) == 1:
                digest = self._convert(files[0], format_)
            else:
                pieces = [self._as_parquet(f, format_, f.with_suffix(".piece")) for f in files]
                self._tables.concatenate(pieces, directory / "whole.parquet")
                digest = self._convert(directory / "whole.parquet", "parquet")
        # Without its query: a signed address is a credential.
        return f"{parts.scheme}://{parts.hostname or ''}{parts.path}", format_, digest

    def _convert(self, source: Path, format_: Format) -> str:
        """Take a file into the store, as Parquet."""
        with tempfile.TemporaryDirectory(prefix="aiaas-register-") as directory:
            parquet = self._as_parquet(source, format_, Path(directory) / "data.parquet")
            with parquet.open("rb") as stream:
                digest, _ = self._blobs.put(stream, limit=self._limits.max_bytes)
            return digest

    def _as_parquet(self, source: Path, format_: Format, target: Path) -> Path:
        if format_ == "parquet":
            self._tables.describe(source)
            return source
        # A file that somebody made to be read wrongly is read where it does no harm.
        with self._engine.session() as session:
            whole = session.convert(source, format_, target, self._limits.max_bytes)
        if not whole:
            raise TooLarge(
                "As Parquet the file is larger than this platform accepts "
                f"({self._limits.max_bytes // 2**20} MiB).",
                remedy="Store a smaller part of it.",
            )
        return target

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
        if not resolved.is_file():
            raise InvalidInput(f"There is no file {path}.", remedy="Check the path.")
        if resolved.stat().st_size > self._limits.max_bytes:
            raise InvalidInput(
                f"{path} is larger than this platform accepts "
                f"({self._limits.max_bytes // 2**20} MiB).",
                remedy="Register a smaller part of it.",
            )
        return resolved


def _format_of(path: Path) -> Format:
    with path.open("rb") as file:
        return detect_format(path.name, file.read(8))
