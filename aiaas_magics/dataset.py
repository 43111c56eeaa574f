"""`aiaas.datasets` and the `Dataset` that it gives."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas import datasets as wire
from aiaas_hub.schemas.datasets import DatasetVersionCreate
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import check_name
from aiaas_magics import display, not_yet
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Column, Listing, Rich

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN_COLUMNS = 12


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
        self, *, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> pd.DataFrame:
        """All rows (or the first `limit`) and columns (or those named)."""
        return self.to_arrow(columns=columns, limit=limit).to_pandas()

    def to_arrow(
        self, *, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> pa.Table:
        """The same as an Arrow table."""
        import pyarrow.parquet as pq

        self._check_columns(columns)
        with tempfile.TemporaryDirectory(prefix="aiaas-") as directory:
            path = Path(directory) / "data.parquet"
            self._client.datasets.download(
                self.owner, self.name, path, version=self.version, columns=columns, limit=limit
            )
            return pq.read_table(path)

    def preview(
        self, n: int = 10, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Preview:
        """The first `n` rows, of the named columns, that fulfil an SQL condition."""
        if n < 1:
            raise InvalidInput(f"A preview has at least one row, not {n}.", remedy="Ask for n=10.")
        self._check_columns(columns)
        preview = self._client.datasets.preview(
            self.owner, self.name, version=self.version, rows=n, columns=columns, where=where
        )
        return Preview(str(self), preview)

    def profile(self) -> None:
        """Statistics of each column: promised, not in this release."""
        not_yet.refuse("Dataset.profile()", not_yet.VERBS["profile"])

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
            ("columns", _summary(self.schema)),
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


class Preview(Rich):
    """The first rows of a dataset; `.rows`, `.columns` and `.to_pandas()` give them."""

    def __init__(self, title: str, record: wire.Preview) -> None:
        self._title = title
        self._record = record

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self._record.columns]

    @property
    def rows(self) -> list[list[Any]]:
        return self._record.rows

    @property
    def total_rows(self) -> int:
        return self._record.total_rows

    def __len__(self) -> int:
        return len(self._record.rows)

    def to_pandas(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self._record.rows, columns=self.columns)

    @property
    def _caption(self) -> str:
        shown, total = len(self._record.rows), self._record.total_rows
        return f"{self._title}: {shown:,} of {total:,} rows, {len(self.columns):,} columns"

    def _html(self) -> str:
        rows = [[display.escape(_cell(value)) for value in row] for row in self._record.rows]
        titles = [f"{column.name} ({column.type})" for column in self._record.columns]
        return f"{display.muted(self._caption)}{display.table(titles, rows)}"

    def _text(self) -> str:
        # A terminal is some 100 characters wide: the first columns say what the table is.
        names = self.columns[:_SHOWN_COLUMNS]
        rows = [
            [display.clean(_cell(value)).replace("\n", " ") for value in row[:_SHOWN_COLUMNS]]
            for row in self._record.rows
        ]
        return f"{self._caption}\n{display.text_table(names, rows)}" if names else self._caption


class Datasets:
    """The datasets that I may read."""

    def list(self, pattern: str | None = None) -> Listing[Dataset]:
        """Newest first; `pattern` is a shell pattern on the name, such as `sales-*`."""
        client = current_client()
        found = (Dataset(client, record) for record in client.datasets.list(pattern))
        if pattern:
            empty = f"No dataset's name matches {pattern!r}: '%aiaas datasets' lists all."
        else:
            empty = "No datasets yet: aiaas.datasets.put('name', df) stores a DataFrame."
        return Listing(found, _COLUMNS, empty=empty)

    def get(self, name: str) -> Dataset:
        """`[owner/]name[@version]`; without a version the newest."""
        client = current_client()
        return Dataset(client, client.datasets.get(*client.resolve(name)))

    def put(self, name: str, frame: Any, *, description: str = "") -> Dataset:
        """Store a DataFrame, or anything Arrow can read, as a new version of `name`.

        The content of the newest version gives that version again. Raises `InvalidInput` for a
        column of a type that Parquet does not have.
        """
        return self._store(_own_name(name), _to_arrow(frame), description)

    def upload(self, name: str, path: str | Path, *, description: str = "") -> Dataset:
        """Store a Parquet or CSV file of this notebook's machine as a new version of `name`."""
        name = _own_name(name)
        file = Path(path).expanduser()
        if not file.is_file():
            raise InvalidInput(
                f"There is no file {str(path)!r}.",
                remedy=f"Check the path; it is relative to {Path.cwd()}.",
            )
        format_ = _format_of(file)
        client = current_client()
        return self._create(client, name, client.upload(file).digest, format_, description)

    def register(
        self,
        name: str,
        uri: str,
        *,
        format: str | None = None,  # noqa: A002  (the option's public name)
        description: str = "",
    ) -> Dataset:
        """Make a dataset of a Parquet or CSV file below my notebook directory; it is copied."""
        name = _own_name(name)
        if "://" not in uri:
            uri = Path(uri).expanduser().absolute().as_uri()
        if format not in (None, "parquet", "csv"):
            raise InvalidInput(f"{format!r} is not a known format.", remedy="Give parquet or csv.")
        client = current_client()
        request = DatasetVersionCreate.model_validate(
            {"uri": uri, "format": format, "description": description}
        )
        return Dataset(client, client.datasets.create_version(client.user, name, request))

    def _store(self, name: str, frame: pa.Table, description: str) -> Dataset:
        import pyarrow.parquet as pq

        client = current_client()
        with tempfile.TemporaryDirectory(prefix="aiaas-") as directory:
            path = Path(directory) / "data.parquet"
            pq.write_table(frame, path)
            digest = client.upload(path).digest
        return self._create(client, name, digest, "parquet", description)

    @staticmethod
    def _create(
        client: Client, name: str, digest: str, format_: wire.Format, description: str
    ) -> Dataset:
        request = DatasetVersionCreate(blob=digest, format=format_, description=description)
        return Dataset(client, client.datasets.create_version(client.user, name, request))


datasets = Datasets()

_COLUMNS: list[Column[Dataset]] = [
    Column("dataset", str, lambda d: display.code(d)),
    Column("rows", lambda d: f"{d.rows:,}"),
    Column("columns", lambda d: _summary(d.schema)),
    Column("size", lambda d: display.size(d._record.latest.size)),
    Column("updated", lambda d: display.ago(d._record.updated_at)),
]


def _own_name(name: str) -> str:
    """A name to store under: mine, and without a version, which the service counts."""
    if isinstance(name, str) and "@" in name:
        raise InvalidInput(
            f"{name!r} has a version.", remedy="Give the name alone: versions are counted for you."
        )
    return check_name(name)


def _format_of(path: Path) -> wire.Format:
    suffix = path.suffix.lower().lstrip(".")
    if suffix in ("parquet", "pq"):
        return "parquet"
    if suffix == "csv":
        return "csv"
    raise InvalidInput(
        f"{path.name!r} is neither Parquet nor CSV by its name.",
        remedy="Convert it, or read it into a DataFrame and call aiaas.datasets.put.",
    )


def _to_arrow(frame: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    if not hasattr(frame, "to_parquet") and hasattr(frame, "__arrow_c_stream__"):
        try:
            return pa.table(frame)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise _no_table(frame) from error
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise _no_table(frame)
    _check_column_names(frame)
    named_index = any(name is not None for name in frame.index.names)
    flat = frame.reset_index() if named_index else frame
    try:
        # An index without a name is only the order of the rows.
        return pa.Table.from_pandas(flat, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _unsupported(flat, error) from error


def _no_table(frame: Any) -> InvalidInput:
    remedy = "Give a pandas DataFrame."
    if hasattr(frame, "to_frame"):
        remedy = "Give a DataFrame: series.to_frame('name')."
    return InvalidInput(f"A {type(frame).__name__} is not a table.", remedy=remedy)


def _check_column_names(frame: pd.DataFrame) -> None:
    odd = [column for column in frame.columns if not isinstance(column, str)]
    if odd:
        raise InvalidInput(
            f"Column names must be texts; {odd[0]!r} is not.",
            remedy="Rename them: df.columns = df.columns.astype(str).",
        )
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise InvalidInput(
            f"There are two columns {doubled[0]!r}.", remedy="Rename or drop one of them."
        )


def _unsupported(frame: pd.DataFrame, error: Exception) -> InvalidInput:
    """The error that names the column: Arrow's own text does not always."""
    import numpy as np
    import pyarrow as pa

    for column in frame.columns:
        values = frame[column]
        try:
            pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError):
            # Arrow takes arrays of one dimension; lists in lists are the others.
            arrays = any(isinstance(value, np.ndarray) for value in values)
            conversion = "map(lambda a: a.tolist())" if arrays else "astype(str)"
            return InvalidInput(
                f"Column {column!r} holds values that Parquet has no type for.",
                remedy=f"Convert it, for example df[{column!r}] = df[{column!r}].{conversion}.",
            )
    return InvalidInput(
        f"The table cannot be stored as Parquet: {error}", remedy="Convert the column it names."
    )


def _summary(schema: dict[str, str]) -> str:
    names = list(schema)
    shown = ", ".join(f"{name}: {schema[name]}" for name in names[:4])
    return f"{shown}, … ({len(names)})" if len(names) > 4 else shown


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
