"""What may be brought: objects of the notebook, files of each format, folders of images."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import lake_tables
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pytest
import torch
from api_world import World
from notebook_shell import Notebook
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

import aiaas_magics as aiaas
from aiaas_hub.adapters.duckdb_queries import engine
from aiaas_hub.schemas.errors import InvalidInput, TooLarge
from aiaas_magics import client, images


class Pairs(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([{"a": torch.tensor([1.0, 2.0]), "n": number} for number in range(5000)])


def test_objects_become_tables(world: World) -> None:
    table = pa.table({"x": [1, 2], "s": ["a", None]})
    assert aiaas.datasets.put("table", table).to_arrow().equals(table)
    batch = aiaas.datasets.put("batch", table.to_batches()[0])
    assert batch.rows == 2
    arrays = {"x": np.arange(24, dtype=np.float32).reshape(4, 2, 3), "y": np.arange(4)}
    stored = aiaas.datasets.put("arrays", arrays)
    assert stored.to_arrow().column("x").to_pylist() == arrays["x"].tolist()
    assert stored.schema["y"] == "int64"
    matrix = aiaas.datasets.put("matrix", np.eye(3))
    assert list(matrix.schema) == ["column_0", "column_1", "column_2"]
    pairs = aiaas.datasets.put("pairs", TensorDataset(torch.ones(5, 2), torch.arange(5)))
    assert pairs.to_arrow().column("y").to_pylist() == [0, 1, 2, 3, 4]
    assert pairs.preview(1).rows == [[[1.0, 1.0], 0]]
    assert aiaas.datasets.put("stream", Pairs()).rows == 5000


def test_a_hugging_face_dataset_becomes_a_table(world: World, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets

        whole = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
        some = whole.filter(lambda row: row["label"] == 0)
        by_name = datasets.DatasetDict({"train": whole})
    stored = aiaas.datasets.put("some", some.select([1, 0]))
    assert stored.to_arrow().to_pydict() == {"text": ["c", "a"], "label": [0, 0]}
    with pytest.raises(InvalidInput, match="by name") as refusal:
        aiaas.datasets.put("all", by_name)
    assert "dataset['train']" in refusal.value.remedy


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (np.zeros(3), "dimensions"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "different numbers of rows"),
        (np.array([[object()]]), "no type for"),
        ({"a": np.zeros((2, 0))}, "no values"),
        ({"a": [1, 2]}, "not a table"),
        (TensorDataset(torch.ones(0, 2)), "not a table"),
    ],
)
def test_objects_that_are_no_tables(world: World, thing: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        aiaas.datasets.put("bad", thing)
    assert refusal.value.remedy
    assert not aiaas.datasets.list()


TABLE = pa.table({"id": [1, 2, 3], "name": ["a", "é", "c"]})


def written(path: Path, format_: str) -> Path:
    if format_ == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()))
    elif format_ == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    elif format_ == "stream":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    elif format_ == "feather":
        pyarrow.feather.write_feather(TABLE, str(path), compression="zstd")
    else:
        pyarrow.orc.write_table(TABLE, str(path))
    return path


@pytest.mark.parametrize(
    ("name", "how", "format_"),
    [
        ("rows.jsonl", "jsonl", "jsonl"),
        ("rows.arrow", "arrow", "arrow"),
        ("rows.arrows", "stream", "arrow"),
        ("rows.feather", "feather", "arrow"),
        ("rows.orc", "orc", "orc"),
        ("rows.unnamed", "orc", "orc"),  # told by how it begins
    ],
)
def test_files_of_each_format(
    world: World, notebook: Notebook, tmp_path: Path, name: str, how: str, format_: str
) -> None:
    own = world.home.notebooks / "alice"
    own.mkdir(exist_ok=True)
    stored = aiaas.datasets.upload("sent", written(tmp_path / name, how))
    assert stored.to_arrow().to_pydict() == TABLE.to_pydict()
    assert stored._record.latest.format == format_
    there = written(own / name, how)
    registered = notebook.run(f"%aiaas register there {there}")
    assert registered.to_arrow().to_pydict() == TABLE.to_pydict()


def test_lines_of_text(world: World, tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_bytes("Rosés are\r\n\nred".encode())
    stored = aiaas.datasets.upload("poem", file)
    assert stored.to_arrow().to_pydict() == {"text": ["Rosés are", "", "red"]}
    log = tmp_path / "server.log"
    log.write_text("a\nb\n")
    assert aiaas.datasets.upload("log", log, format="text").rows == 2


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("a.jsonl", b'{"x": 1}\n{"x": [}', None),
        ("a.orc", b"ORC nonsense", None),
        ("a.arrow", b"ARROW1\0\0 nonsense", None),
        ("a.csv", b"", None),
        ("a.txt", b"\xff\xfe\xfa", None),
        ("a.npz", b"PK\x03\x04", None),
        ("a.pkl", b"\x80\x04.", None),
        ("a.csv", b"a,b\n1,2\n", "orc"),
        ("a.csv", b"a,b\n1,2\n", "xml"),
    ],
)
def test_files_that_are_not_what_they_say(
    world: World, tmp_path: Path, name: str, content: bytes, format_: str | None
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidInput) as refusal:
        aiaas.datasets.upload("bad", file, format=format_)
    assert refusal.value.remedy
    assert str(world.home.root) not in str(refusal.value)
    assert not aiaas.datasets.list()


def test_a_file_that_unfolds_to_more_than_fits_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes of Arrow that hold half a gigabyte of zeros in one batch."""
    monkeypatch.setattr(engine.DuckDbSession, "slack_bytes", 200 << 20)
    limits = engine.QueryLimits(memory_bytes=64 << 20)
    monkeypatch.setattr(world.services.bringing._engine, "_limits", limits)
    file = tmp_path / "bomb.arrow"
    rows = 64 << 20
    zeros = pa.table({"x": np.zeros(rows, dtype=np.int64)})
    pyarrow.feather.write_feather(zeros, str(file), compression="zstd", chunksize=rows)
    assert file.stat().st_size < 1 << 20
    with pytest.raises(TooLarge):
        aiaas.datasets.upload("bomb", file)
    assert not aiaas.datasets.list()


def picture(colour: str, size: tuple[int, int] = (100, 50)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def test_a_folder_of_images_with_labels(world: World, tmp_path: Path) -> None:
    for label, colour in (("cats", "red"), ("dogs", "blue")):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "pets" / label / f"{number}.png").write_bytes(picture(colour))
    (tmp_path / "pets" / "readme.txt").write_text("no image")
    (tmp_path / "pets" / "out.png").symlink_to("/etc/passwd")
    stored = aiaas.datasets.upload("pets", tmp_path / "pets")
    table = stored.to_arrow()
    assert table.column("label").to_pylist() == ["cats"] * 3 + ["dogs"] * 3
    assert table.column("path").to_pylist()[0] == "cats/0.png"
    assert table.column("image").to_pylist()[0] == picture("red")
    assert table.column("width").to_pylist() == [100] * 6
    assert Image.open(io.BytesIO(table.column("thumbnail").to_pylist()[0])).size == (64, 32)
    shown = stored.preview(2, columns=["label", "thumbnail"])._repr_mimebundle_()["text/html"]
    assert str(shown).count('src="data:image/png;base64,') == 2
    packed = tmp_path / "pets.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted((tmp_path / "pets").rglob("?.png")):
            archive.write(file, file.relative_to(tmp_path / "pets"))
    assert aiaas.datasets.upload("packed", packed).to_arrow().equals(table)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"../../evil.png": b"x"}, "leads out"),
        ({"/etc/evil.png": b"x"}, "leads out"),
        ({"a\\..\\b.png": b"x"}, "leads out"),
        ({"a.png": b"not an image"}, "not readable as an image"),
        ({"a.png": b""}, "empty"),
        ({"a.txt": b"x"}, "no image"),
        ({}, "no image"),
    ],
)
def test_a_zip_that_cannot_be(
    world: World, tmp_path: Path, entries: dict[str, bytes], says: str
) -> None:
    packed = tmp_path / "bad.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises((InvalidInput, TooLarge), match=says):
        aiaas.datasets.upload("bad", packed)
    assert not (tmp_path.parent / "evil.png").exists()


def test_bombs_are_refused(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large.png", bytes(images.MAX_IMAGE_BYTES + 1))
    with pytest.raises(TooLarge, match="larger than 64 MiB"):
        aiaas.datasets.upload("bad", packed)
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "a.png").write_bytes(picture("red", (200, 200)))
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    with pytest.raises(TooLarge, match="pixels"):
        aiaas.datasets.upload("bad", tmp_path / "wide")
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(TooLarge, match="more than"):
        aiaas.datasets.upload("bad", tmp_path / "wide")


def test_nested_values_are_folded(world: World) -> None:
    frame = pd.DataFrame({"deep": [{"a": list(range(100)), "b": "<script>"}]})
    html = str(aiaas.datasets.put("deep", frame).preview()._repr_mimebundle_()["text/html"])
    assert "<details><summary>" in html
    assert "<script>" not in html


def test_a_large_file_goes_on_where_it_was_interrupted(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PIECE", 10_000)
    file = tmp_path / "large.csv"
    file.write_text("x\n" + "".join(f"{number}\n" for number in range(20_000)))
    sent: list[int] = []

    def interrupt(done: int, total: int) -> None:
        sent.append(done)
        if done >= 50_000:
            raise KeyboardInterrupt

    service = client.current_client()
    with pytest.raises(KeyboardInterrupt):
        service.upload_file(file, interrupt)
    assert sent == [0, 10_000, 20_000, 30_000, 40_000, 50_000]
    again: list[int] = []
    service.upload_file(file, lambda done, total: again.append(done))
    assert again[0] == 50_000
    assert again[-1] == file.stat().st_size
    assert aiaas.datasets.upload("large", file).rows == 20_000


def test_a_delta_table_is_registered_as_of_a_version(world: World, notebook: Notebook) -> None:
    own = world.home.notebooks / "alice"
    own.mkdir(exist_ok=True)
    table = lake_tables.delta(own / "lake")
    first = notebook.run(f"%aiaas register lake {table} --snapshot 0")
    assert (first.version, first.rows) == (1, 3)
    newest = notebook.run(f"%aiaas register lake {table}")
    assert newest.version == 2
    assert "lake as of version 2 by alice" in repr(newest)
    assert notebook.run("%aiaas preview lake --columns x --sort x").rows == [[2], [3], [4]]
    notebook.run("%%aiaas sql --into counted\nSELECT part, count(*) n FROM lake GROUP BY part")
    assert sorted(notebook.shell.user_ns["counted"].n) == [1, 2]
    again = notebook.run(f"%aiaas register lake {table} --format delta")
    assert again.version == 2, "the same version is the same content"
    lake_tables.names_also(table, "/etc/passwd")
    assert "'/etc/passwd', which is not in the table" in notebook.refuses(
        f"%aiaas register lake {table}"
    )
    assert aiaas.datasets.get("lake").version == 2
    with pytest.raises(InvalidInput, match="is the folder of a table") as refusal:
        aiaas.datasets.upload("lake", table)
    assert "%aiaas register lake" in refusal.value.remedy
    for line in ("--format csv", "--schema x=string", "--snapshot x"):
        assert notebook.refuses(f"%aiaas register bad {table} {line}")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "zip,n\n0123,1\n0456,2\n"), ("a.jsonl", '{"zip": "0123", "n": 1}\n{"n": 2}\n')],
)
def test_types_that_are_not_to_be_guessed(
    world: World, notebook: Notebook, name: str, content: str
) -> None:
    own = world.home.notebooks / "alice"
    own.mkdir(exist_ok=True)
    file = own / name
    file.write_text(content)
    made = notebook.run(f"%aiaas register zips {file} --schema zip=string,n=double")
    assert made.schema == {"zip": "string", "n": "double"}
    assert made.to_arrow().column("zip").to_pylist()[0] == "0123"
    sent = aiaas.datasets.upload("sent", file, schema={"n": "int8"})
    assert sent.schema["n"] == "int8"
    for schema, said in {
        "n=number": "'number' is no type for column 'n'",
        "m=int64": "no column 'm' to give a type; it has zip, n",
        "zip=": "is not COLUMN=TYPE",
        "zip=bool": "not readable as",
    }.items():
        assert said in notebook.refuses(f"%aiaas register bad {file} --schema {schema}")
    refused = notebook.refuses(f"%aiaas register bad {file} --snapshot 1")
    assert "Only a Delta or Iceberg table has versions of its own" in refused
    assert [one.name for one in aiaas.datasets.list()] == ["sent", "zips"]


def test_a_file_that_says_its_types_takes_none(world: World, tmp_path: Path) -> None:
    for how in ("arrow", "orc"):
        file = written(tmp_path / f"a.{how}", how)
        with pytest.raises(InvalidInput, match="says itself what its types are"):
            aiaas.datasets.upload("bad", file, schema={"x": "string"})
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"x": [1]}), str(file))
    with pytest.raises(InvalidInput, match="says itself what its types are"):
        aiaas.datasets.upload("bad", file, schema={"x": "string"})
    assert not aiaas.datasets.list()
