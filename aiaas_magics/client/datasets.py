"""Datasets over REST."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiaas_hub.schemas.datasets import (
    Dataset,
    DatasetUpdate,
    DatasetVersion,
    DatasetVersionCreate,
    Diff,
    Preview,
    TagVersion,
    VersionUpdate,
)
from aiaas_hub.schemas.lineage import DatasetLineage
from aiaas_hub.schemas.profiles import ProfileStatus
from aiaas_hub.schemas.queries import CUT_HEADER, DATASETS_HEADER, ROWS_HEADER, QueryRequest
from aiaas_magics.client.transport import Transport, segment


class DatasetsClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        pattern: str | None = None,
        *,
        search: str | None = None,
        owner: str | None = None,
    ) -> Iterator[Dataset]:
        """Mine and those shared with me, newest first; `pattern` is a shell pattern on the
        name."""
        query = {"pattern": pattern, "search": search, "owner": owner}
        return self._transport.pages("/datasets", Dataset, query=query)

    def get(self, owner: str, name: str, version: int | str | None = None) -> Dataset:
        """The dataset; its `latest` is the version asked for, by number or tag."""
        return self._transport.call("GET", _path(owner, name), Dataset, query={"version": version})

    def create_version(self, owner: str, name: str, version: DatasetVersionCreate) -> Dataset:
        """A new version; the content of the newest one gives that one again."""
        return self._transport.call("POST", f"{_path(owner, name)}/versions", Dataset, body=version)

    def update(self, owner: str, name: str, change: DatasetUpdate) -> Dataset:
        return self._transport.call("PATCH", _path(owner, name), Dataset, body=change)

    def versions(self, owner: str, name: str) -> Iterator[DatasetVersion]:
        """Newest first, with the retired ones."""
        return self._transport.pages(f"{_path(owner, name)}/versions", DatasetVersion)

    def retire(self, owner: str, name: str, version: int, *, retired: bool) -> DatasetVersion:
        path = f"{_path(owner, name)}/versions/{version}"
        body = VersionUpdate(retired=retired)
        return self._transport.call("PATCH", path, DatasetVersion, body=body)

    def tag(self, owner: str, name: str, tag: str, version: int | None) -> Dataset:
        """Give a version a tag; None takes it from the one that has it."""
        path = f"{_path(owner, name)}/tags/{segment(tag)}"
        if version is None:
            return self._transport.call("DELETE", path, Dataset)
        return self._transport.call("PUT", path, Dataset, body=TagVersion(version=version))

    def diff(self, owner: str, name: str, before: int, after: int) -> Diff:
        query = {"before": before, "after": after}
        return self._transport.call("GET", f"{_path(owner, name)}/diff", Diff, query=query)

    def lineage(self, owner: str, name: str, version: int | str | None = None) -> DatasetLineage:
        """What made the version, and all that it was made of."""
        path = f"{_path(owner, name)}/lineage"
        return self._transport.call("GET", path, DatasetLineage, query={"version": version})

    def preview(
        self,
        owner: str,
        name: str,
        *,
        version: int | None = None,
        rows: int | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        sort: Sequence[str] | None = None,
        offset: int | None = None,
    ) -> Preview:
        query = {
            "version": version,
            "n": rows,
            "columns": _comma(columns),
            "where": where,
            "sort": _comma(sort),
            "offset": offset,
        }
        return self._transport.call("GET", f"{_path(owner, name)}/preview", Preview, query=query)

    def download(
        self,
        owner: str,
        name: str,
        target: Path,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        limit: int | None = None,
    ) -> None:
        """Write the rows to `target` as Parquet."""
        query = {
            "version": version,
            "columns": _comma(columns),
            "where": where,
            "limit": limit,
        }
        self._transport.download(f"{_path(owner, name)}/data", target, query=query)

    def profile(
        self, owner: str, name: str, version: int, *, request: bool = False
    ) -> ProfileStatus:
        """How far the profile of a version is; `request` has it computed."""
        return self._transport.call(
            "POST" if request else "GET",
            f"{_path(owner, name)}/profile",
            ProfileStatus,
            query={"version": version},
        )

    def query(self, request: QueryRequest, target: Path) -> QueryAnswer:
        """Write the result of a query to `target` as Parquet."""
        headers = self._transport.download("/queries", target, body=request)
        return QueryAnswer(
            rows=int(headers[ROWS_HEADER]),
            cut=headers.get(CUT_HEADER, ""),
            datasets=json.loads(headers[DATASETS_HEADER]),
        )


@dataclass(frozen=True)
class QueryAnswer:
    rows: int
    cut: str
    """What ended the result: `rows`, `size`, or empty where it is whole."""
    datasets: list[str]
    """The exact versions that were read, as `owner/name@version`."""


def _path(owner: str, name: str) -> str:
    return f"/datasets/{segment(owner)}/{segment(name)}"


def _comma(columns: Sequence[str] | None) -> str | None:
    return ",".join(columns) if columns else None
