"""One version of a dataset."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.schemas import datasets as wire
from aiaas_hub.schemas.errors import InvalidInput, Unavailable
from aiaas_hub.schemas.lineage import LineageStep
from aiaas_magics import display
from aiaas_magics.client import Client
from aiaas_magics.dataset_diff import Diff
from aiaas_magics.display import Column, Listing, Rich
from aiaas_magics.preview import Preview
from aiaas_magics.profile import Profile

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN_COLUMNS = 12
_FIRST_LOOK_SECONDS = 0.2
_LAST_LOOK_SECONDS = 2.0


class Dataset(Rich):
    """One version of a dataset: immutable rows under `owner/name@version`."""

    def __init__(self, client: Client, record: wire.Dataset) -> None:
        self._client = client
        self._record = record

    @property
    def owner(self) -> str:
        return self._record.owner

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def version(self) -> int:
        return self._record.latest.version

    @property
    def rows(self) -> int:
        return self._record.latest.rows

    @property
    def schema(self) -> dict[str, str]:
        """Column → type, in Arrow's spelling."""
        return {column.name: column.type for column in self._record.latest.columns}

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return self._record.latest.digest

    @property
    def description(self) -> str:
        """Markdown."""
        return self._record.description

    @property
    def licence(self) -> str:
        return self._record.licence

    @property
    def tags(self) -> list[str]:
        """Words by which people find the dataset."""
        return self._record.tags

    @property
    def version_tags(self) -> list[str]:
        """Names of this version, such as `golden`: `NAME@golden` means it."""
        return self._record.latest.tags

    @property
    def shared_with(self) -> str:
        """`private`, `everyone` or `group:NAME`."""
        record = self._record
        return f"group:{record.group}" if record.visibility == "group" else record.visibility

    @property
    def origin(self) -> wire.Origin | None:
        """What made this version, and of which versions."""
        return self._record.latest.origin

    def describe(
        self,
        description: str | None = None,
        *,
        licence: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Dataset:
        """Say more of the dataset; what is left out stays as it is."""
        change = wire.DatasetUpdate(
            description=description, licence=licence, tags=None if tags is None else list(tags)
        )
        return self._changed(self._client.datasets.update(self.owner, self.name, change))

    def share(self, audience: str) -> Dataset:
        """Let `everyone` read it, or `group:NAME` of mine, or nobody else: `private`."""
        visibility, colon, group = audience.partition(":")
        if visibility not in ("private", "everyone", "group") or bool(colon) != (
            visibility == "group"
        ):
            raise InvalidInput(
                f"Nobody is called {audience!r} here.",
                remedy="Share with 'everyone' or 'group:NAME', or keep it 'private'.",
            )
        change = wire.DatasetUpdate.model_validate(
            {"visibility": visibility, "group": group or None}
        )
        return self._changed(self._client.datasets.update(self.owner, self.name, change))

    def history(self) -> Listing[wire.DatasetVersion]:
        """All versions, newest first, with what made each."""
        found = self._client.datasets.versions(self.owner, self.name)
        return Listing(found, HISTORY, empty="No versions.")

    def lineage(self) -> Rich:
        """What made this version, and all that it was made of."""
        # That module knows this one.
        from aiaas_magics.dataset_lineage import DatasetLineage

        return DatasetLineage(self._client.datasets.lineage(self.owner, self.name, self.version))

    def tag(self, tag: str) -> Dataset:
        """Call this version `NAME@tag`, and no other one."""
        at = (self.owner, self.name, tag, self.version)
        return Dataset(self._client, self._client.datasets.tag(*at))

    def untag(self, tag: str) -> None:
        """Take a tag away, from whichever version has it."""
        self._client.datasets.tag(self.owner, self.name, tag, None)

    def retire(self) -> None:
        """Take this version out of use. Its content is deleted after a time, unless a run refers
        to it; until then `datasets.restore(NAME, VERSION)` takes it back."""
        self._client.datasets.retire(self.owner, self.name, self.version, retired=True)

    def diff(self, version: int | str, *, profiles: bool = True) -> Diff:
        """What is different in this version from another one of the dataset.

        With `profiles` both are profiled first, where they are not yet, which may take a while;
        without, distributions are compared only if both are.
        """
        other = Dataset(self._client, self._client.datasets.get(self.owner, self.name, version))
        if profiles:
            other.profile()
            self.profile()
        at = (self.owner, self.name, other.version, self.version)
        return Diff(self._client.datasets.diff(*at))

    def _changed(self, record: wire.Dataset) -> Dataset:
        """The dataset as it is now, at this version."""
        return Dataset(self._client, record.model_copy(update={"latest": self._record.latest}))

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}@{self.version}"

    def to_pandas(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """All rows (or those that fulfil an SQL condition, or the first `limit`) and columns (or
        those named)."""
        return self.to_arrow(columns=columns, where=where, limit=limit).to_pandas()

    def to_arrow(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The same as an Arrow table."""
        import pyarrow.parquet as pq

        self._check_columns(columns)
        with tempfile.TemporaryDirectory(prefix="aiaas-") as directory:
            path = Path(directory) / "data.parquet"
            self._client.datasets.download(
                self.owner,
                self.name,
                path,
                version=self.version,
                columns=columns,
                where=where,
                limit=limit,
            )
            return pq.read_table(path)

    def preview(
        self,
        n: int = 10,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        offset: int = 0,
    ) -> Preview:
        """`n` rows from row `offset` on, of the named columns, that fulfil an SQL condition.

        `sort` is a column, or several: `"price:desc"`, `["city", "price:desc"]`. Raises
        `InvalidInput` for a column that is not there or a condition that cannot be meant.
        """
        if n < 1:
            raise InvalidInput(f"A preview has at least one row, not {n}.", remedy="Ask for n=10.")
        self._check_columns(columns)
        preview = self._client.datasets.preview(
            self.owner,
            self.name,
            version=self.version,
            rows=n,
            columns=columns,
            where=where,
            sort=[sort] if isinstance(sort, str) else sort,
            offset=offset or None,
        )
        return Preview(str(self), preview)

    def profile(
        self,
        *,
        wait: bool = True,
        timeout: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Profile | None:
        """Statistics of each column, computed once for each version by the platform.

        Large versions are sampled, and the profile says so. `progress` is called with how many
        columns are done and how many there are. Without `wait`, or after `timeout` seconds, None
        where it is not done yet: it goes on there. Raises `Unavailable` for one that failed.
        """
        ask = self._client.datasets.profile
        at = (self.owner, self.name, self.version)
        status = ask(*at, request=True)
        until = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_LOOK_SECONDS
        while status.profile is None:
            if status.state == "failed":
                raise Unavailable(
                    f"The profile of {self} could not be computed: {status.error}",
                    remedy="Ask for it again.",
                )
            if not wait or (until is not None and time.monotonic() > until):
                return None
            if progress is not None:
                progress(status.done, status.total)
            time.sleep(pause)
            pause = min(_LAST_LOOK_SECONDS, pause * 1.5)
            status = ask(*at)
        return Profile(str(self), status.profile)

    def _check_columns(self, columns: Sequence[str] | None) -> None:
        if isinstance(columns, str):
            raise InvalidInput(
                f"columns is the text {columns!r}.", remedy=f"Give a list: columns=[{columns!r}]."
            )
        for column in columns or ():
            if column not in self.schema:
                raise InvalidInput(
                    f"{self} has no column {column!r}.",
                    remedy=f"Its columns are {', '.join(list(self.schema)[:_SHOWN_COLUMNS])}"
                    f"{', …' if len(self.schema) > _SHOWN_COLUMNS else ''}.",
                )

    def _facts(self) -> list[tuple[str, str]]:
        latest = self._record.latest
        return [
            ("about", self.description),
            ("tags", ", ".join(self.tags)),
            ("licence", self.licence),
            ("shared with", "" if self.shared_with == "private" else self.shared_with),
            ("version is", ", ".join(self.version_tags)),
            ("rows", f"{latest.rows:,}"),
            ("columns", summary(self.schema)),
            ("size", display.size(latest.size)),
            ("source", made_by(latest)),
            ("content", f"sha256:{latest.digest[:12]}…"),
        ]

    def _html(self) -> str:
        return display.card(
            str(self), None, [(label, display.escape(value)) for label, value in self._facts()]
        )

    def _text(self) -> str:
        return display.text_card(f"Dataset {self}", None, self._facts())


def made_by(version: wire.DatasetVersion | LineageStep) -> str:
    """What made a version, in a line."""
    origin = version.origin
    if origin is None:
        return version.source
    inputs = ", ".join(f"{one.owner}/{one.name}@{one.version}" for one in origin.inputs)
    if origin.kind == "query":
        sql = " ".join((origin.sql or "").split())
        return f"query of {inputs or 'no dataset'} by {origin.by}: {sql}"
    if origin.kind == "run":
        return f"run {origin.run} of {inputs}"
    snapshot = f" as of version {origin.snapshot}" if origin.snapshot else ""
    return f"{origin.uri or 'upload'}{snapshot} by {origin.by}"


HISTORY: list[Column[wire.DatasetVersion]] = [
    Column("version", lambda v: f"@{v.version}"),
    Column("tags", lambda v: ", ".join([*v.tags, *(["retired"] if v.retired else [])])),
    Column("rows", lambda v: f"{v.rows:,}"),
    Column("size", lambda v: display.size(v.size)),
    Column("made by", made_by),
    Column("when", lambda v: display.ago(v.created_at)),
]


def summary(schema: dict[str, str]) -> str:
    names = list(schema)
    shown = ", ".join(f"{name}: {schema[name]}" for name in names[:4])
    return f"{shown}, … ({len(names)})" if len(names) > 4 else shown
