"""`aiaas.datasets`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aiaas_hub.schemas import datasets as wire
from aiaas_hub.schemas.datasets import DatasetVersionCreate
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import check_name
from aiaas_hub.schemas.queries import Engine
from aiaas_magics import display
from aiaas_magics.arrow_tables import to_arrow
from aiaas_magics.client import Client, current_client
from aiaas_magics.dataset import Dataset, summary
from aiaas_magics.display import Column, Listing, Note
from aiaas_magics.errors import invalid
from aiaas_magics.query_result import QueryResult

if TYPE_CHECKING:
    import pyarrow as pa


class Datasets:
    """The datasets that I may read."""

    def list(
        self,
        pattern: str | None = None,
        *,
        search: str | None = None,
        owner: str | None = None,
    ) -> Listing[Dataset]:
        """Mine and those shared with me, newest first.

        `pattern` is a shell pattern on the name, such as `sales-*`. `search` finds those of which
        name, owner, columns, tags or description have words that begin like its words;
        `column:price tag:gold` looks in one place.
        """
        client = current_client()
        records = client.datasets.list(pattern, search=search, owner=owner)
        found = (Dataset(client, record) for record in records)
        if pattern or search:
            wanted = f"name matches {pattern!r}" if pattern else f"words match {search!r}"
            empty = f"No dataset's {wanted}: '%aiaas datasets' lists all."
        else:
            empty = "No datasets yet: aiaas.datasets.put('name', df) stores a DataFrame."
        return Listing(found, _COLUMNS, empty=empty)

    def get(self, name: str) -> Dataset:
        """`[owner/]name[@version]`, with a version's number or tag; without, the newest."""
        client = current_client()
        return Dataset(client, client.datasets.get(*client.resolve_dataset(name)))

    def restore(self, name: str, version: int) -> Dataset:
        """Take back a version that was retired. Raises `Conflict` once its content is deleted."""
        client = current_client()
        client.datasets.retire(client.user, _own_name(name), version, retired=False)
        return self.get(f"{name}@{version}")

    def put(self, name: str, frame: Any, *, description: str = "") -> Dataset:
        """Store a DataFrame, or anything Arrow can read, as a new version of `name`.

        The content of the newest version gives that version again. Raises `InvalidInput` for a
        column of a type that Parquet does not have.
        """
        return self._store(_own_name(name), to_arrow(frame), description)

    def upload(
        self,
        name: str,
        path: str | Path,
        *,
        format: str | None = None,  # noqa: A002  (the option's public name)
        schema: Mapping[str, str] | None = None,
        description: str = "",
    ) -> Dataset:
        """Store a file or a folder of this notebook's machine as a new version of `name`.

        Parquet, CSV, JSON lines, Arrow, Feather, ORC or text, told from how it begins or from
        its name, or said with `format`. A folder or a .zip of images becomes a table of them,
        with the folder that each is in as its label. Of CSV and JSON lines `schema` says types
        that are not to be told from the values, `{"zip": "string"}`. Raises `InvalidInput` for
        what is none of these.
        """
        name = _own_name(name)
        file = Path(path).expanduser()
        if (file / "_delta_log").is_dir() or any((file / "metadata").glob("*.metadata.json")):
            raise InvalidInput(
                f"{str(path)!r} is the folder of a table.",
                remedy=f"Register it where it lies: %aiaas register {name} {path}",
            )
        if file.is_dir() or (file.suffix.lower() == ".zip" and file.is_file()):
            return self._upload_images(name, file, description)
        if not file.is_file():
            raise InvalidInput(
                f"There is no file {str(path)!r}.",
                remedy=f"Check the path; it is relative to {Path.cwd()}.",
            )
        with file.open("rb") as stream:
            format_ = _known(format) or wire.detect_format(file.name, stream.read(8))
        client = current_client()
        return self._create(client, name, _sent(client, file), format_, description, schema)

    def register(
        self,
        name: str,
        uri: str,
        *,
        format: str | None = None,  # noqa: A002  (the option's public name)
        schema: Mapping[str, str] | None = None,
        snapshot: int | None = None,
        secret: str | None = None,
        description: str = "",
    ) -> Dataset:
        """Make a dataset of a file below my notebook directory, at a public https address, or of
        a file or folder in an object store below a place that the operator allows. It is copied:
        what becomes of it there does not change the version.

        The folder of a Delta Lake or Iceberg table is read as of its newest version, or as of
        `snapshot`. `schema` is as for `upload`. `secret` names one of mine (`aiaas.secrets`) to
        read it with: only now, for the copy.
        """
        name = _own_name(name)
        if "://" not in uri:
            uri = Path(uri).expanduser().absolute().as_uri()
        _known(format)
        client = current_client()
        request = _request(
            uri=uri,
            format=format,
            types=dict(schema or {}),
            snapshot=None if snapshot is None else str(snapshot),
            secret=secret,
            description=description,
        )
        return Dataset(client, client.datasets.create_version(client.user, name, request))

    def sql(
        self, query: str, *, limit: int | None = None, engine: Engine = "duckdb"
    ) -> QueryResult:
        """The result of one SELECT over datasets, at most `limit` rows of it.

        Tables are `name` (mine), `owner.name`, or `{{name@3}}` with a version. Raises
        `InvalidInput` for anything but a SELECT of datasets, `NotFound` for a dataset that I may
        not read, `TooLarge` for a query that takes more than one may here.
        """
        return QueryResult.of(current_client(), query, limit, engine)

    def save_sql(
        self, name: str, query: str, *, description: str = "", engine: Engine = "duckdb"
    ) -> Dataset:
        """All of a query's result, however many rows, as a new version of `name`."""
        name = _own_name(name)
        client = current_client()
        request = DatasetVersionCreate(query=query, engine=engine, description=description)
        return Dataset(client, client.datasets.create_version(client.user, name, request))

    def _upload_images(self, name: str, path: Path, description: str) -> Dataset:
        from aiaas_magics.images import write_images

        client = current_client()
        with tempfile.TemporaryDirectory(prefix="aiaas-") as directory:
            table = Path(directory) / "images.parquet"
            write_images(path, table)
            digest = _sent(client, table)
        return self._create(client, name, digest, "parquet", description)

    def _store(self, name: str, frame: pa.Table, description: str) -> Dataset:
        import pyarrow.parquet as pq

        client = current_client()
        with tempfile.TemporaryDirectory(prefix="aiaas-") as directory:
            path = Path(directory) / "data.parquet"
            pq.write_table(frame, path)
            digest = _sent(client, path)
        return self._create(client, name, digest, "parquet", description)

    @staticmethod
    def _create(
        client: Client,
        name: str,
        digest: str,
        format_: wire.Format,
        description: str,
        schema: Mapping[str, str] | None = None,
    ) -> Dataset:
        request = _request(
            blob=digest, format=format_, types=dict(schema or {}), description=description
        )
        return Dataset(client, client.datasets.create_version(client.user, name, request))


datasets = Datasets()

_COLUMNS: list[Column[Dataset]] = [
    Column("dataset", str, lambda d: display.code(d)),
    Column("rows", lambda d: f"{d.rows:,}"),
    Column("columns", lambda d: summary(d.schema)),
    Column("size", lambda d: display.size(d._record.latest.size)),
    Column("tags", lambda d: ", ".join([*d.version_tags, *d.tags])),
    Column("shared with", lambda d: "" if d.shared_with == "private" else d.shared_with),
    Column("updated", lambda d: display.ago(d._record.updated_at)),
]


def _sent(client: Client, path: Path) -> str:
    """Digest of a file once it is there; a large one shows how far it is."""
    from IPython.display import display as show

    shown = None

    def tell(sent: int, total: int) -> None:
        nonlocal shown
        text = f"Sending {path.name}: {display.size(sent)} of {display.size(total)}"
        note = Note(
            f"{text}. If it is interrupted, the same call goes on." if sent < total else text
        )
        if shown is None:
            shown = show(note, display_id=True)
        else:
            shown.update(note)

    return client.upload_file(path, tell).digest


def _request(**fields: Any) -> DatasetVersionCreate:
    try:
        return DatasetVersionCreate(**fields)
    except ValidationError as error:
        raise invalid(error) from None


def _known(format_: str | None) -> wire.Format | None:
    for known in wire.FORMATS:
        if format_ == known:
            return known
    if format_ is None:
        return None
    raise InvalidInput(
        f"{format_!r} is not a known format.", remedy=f"Give one of {', '.join(wire.FORMATS)}."
    )


def _own_name(name: str) -> str:
    """A name to store under: mine, and without a version, which the service counts."""
    if isinstance(name, str) and "@" in name:
        raise InvalidInput(
            f"{name!r} has a version.", remedy="Give the name alone: versions are counted for you."
        )
    return check_name(name)
