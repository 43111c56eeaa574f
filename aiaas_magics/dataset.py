"""One version of a dataset."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.schemas import datasets as wire
from aiaas_hub.schemas.errors import InvalidInput, Unavailable
from aiaas_magics import display
from aiaas_magics.client import Client
from aiaas_magics.display import Rich
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
            ("rows", f"{latest.rows:,}"),
            ("columns", summary(self.schema)),
            ("size", display.size(latest.size)),
            ("source", latest.source),
            ("content", f"sha256:{latest.digest[:12]}…"),
        ]

    def _html(self) -> str:
        return display.card(
            str(self), None, [(label, display.escape(value)) for label, value in self._facts()]
        )

    def _text(self) -> str:
        return display.text_card(f"Dataset {self}", None, self._facts())


def summary(schema: dict[str, str]) -> str:
    names = list(schema)
    shown = ", ".join(f"{name}: {schema[name]}" for name in names[:4])
    return f"{shown}, … ({len(names)})" if len(names) > 4 else shown
