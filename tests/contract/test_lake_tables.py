"""Delta Lake and Iceberg tables, read in a query's process: as of a version, and only their own
files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_tables import (
    delete_by_position,
    delete_by_value,
    delta,
    iceberg,
    names_also,
    rows,
    stranger,
    with_deletion_vector,
)

from aiaas_hub.adapters.duckdb_queries.engine import DuckDbQueries, QueryLimits
from aiaas_hub.adapters.formats import convert
from aiaas_hub.adapters.lake_tables import open_delta, open_iceberg
from aiaas_hub.domain.data_ports import Converted, Reading
from aiaas_hub.schemas.datasets import Format
from aiaas_hub.schemas.errors import InvalidInput

Read = Callable[..., tuple[list[int], Converted]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(
        table: Path, format_: Format, snapshot: str | None = None
    ) -> tuple[list[int], Converted]:
        target = tmp_path / "target.parquet"
        with DuckDbQueries(tmp_path / "queries", QueryLimits()).session() as session:
            done = session.convert(table, Reading(format_, {}, snapshot), target, 1 << 30)
        return sorted(pq.read_table(target).column("x").to_pylist()), done

    return reader


def test_a_delta_table_is_read_as_of_a_version(tmp_path: Path, read: Read) -> None:
    table = delta(tmp_path / "table")
    assert read(table, "delta") == ([2, 3, 4], Converted(True, "2"))
    assert read(table, "delta", "0") == ([1, 2, 3], Converted(True, "0"))
    assert pq.read_table(tmp_path / "target.parquet").column("part").to_pylist().count("p1") == 2
    first = (tmp_path / "target.parquet").read_bytes()
    read(table, "delta", "0")
    assert (tmp_path / "target.parquet").read_bytes() == first, "the same version, the same content"
    with pytest.raises(InvalidInput):
        read(table, "delta", "9")


def test_an_iceberg_table_is_read_as_of_a_snapshot(tmp_path: Path, read: Read) -> None:
    with iceberg(tmp_path / "house") as table:
        folder = tmp_path / "house" / "db" / "t"
        first = table.metadata.snapshots[0].snapshot_id
        newest = str(table.current_snapshot().snapshot_id)
        assert read(folder, "iceberg") == ([1, 2], Converted(True, newest))
        assert read(folder, "iceberg", str(first)) == ([1], Converted(True, str(first)))
        # Copied elsewhere it is the same table: its own address in it stands for its folder.
        shutil.copytree(folder, tmp_path / "copy")
        shutil.rmtree(folder)
        assert read(tmp_path / "copy", "iceberg")[0] == [1, 2]
        with pytest.raises(InvalidInput, match="no snapshot 5"):
            read(tmp_path / "copy", "iceberg", "5")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "{outside}",
        "../outside.parquet",
        "%2e%2e/outside.parquet",
        "part=p0/../../outside.parquet",
        "s3://other-bucket/outside.parquet",
        "http://127.0.0.1:9/outside.parquet",
    ],
)
def test_a_delta_log_that_names_a_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    table = delta(tmp_path / "table")
    outside = stranger(tmp_path / "outside.parquet")
    names_also(table, name.format(outside=outside))
    with pytest.raises(pa.ArrowInvalid, match="not in the table's own folder"):
        open_delta(table, None)
    # An older version does not name it.
    assert open_delta(table, "2").snapshot == "2"


@pytest.mark.parametrize("place", ["part=p0/x.parquet", "_delta_log/00000000000000000003.json"])
def test_a_link_out_of_a_table_is_refused(tmp_path: Path, place: str) -> None:
    table = delta(tmp_path / "table")
    os.symlink(stranger(tmp_path / "outside.parquet"), table / place)
    with pytest.raises(pa.ArrowInvalid, match="is a link"):
        open_delta(table, None)


def test_a_hostile_table_is_refused_in_a_sentence(tmp_path: Path, read: Read) -> None:
    table = delta(tmp_path / "table")
    names_also(table, "/etc/passwd")
    with pytest.raises(InvalidInput, match=r"log names '/etc/passwd', which is not") as refusal:
        read(table, "delta")
    assert refusal.value.remedy
    assert str(tmp_path) not in refusal.value.message


def test_an_iceberg_table_with_files_elsewhere_is_refused(tmp_path: Path) -> None:
    with iceberg(tmp_path / "house") as table:
        # Iceberg lets a table take in any file: what its metadata names is not to be believed.
        table.add_files([f"file://{stranger(tmp_path / 'outside.parquet')}"])
        folder = tmp_path / "house" / "db" / "t"
        with pytest.raises(pa.ArrowInvalid, match="not in the table's own folder"):
            open_iceberg(folder, None)
        # Nor is the address that a table gives itself.
        (newest,) = folder.glob("metadata/00003-*.metadata.json")
        newest.write_text(newest.read_text().replace(f"file://{folder}", f"file://{tmp_path}/x"))
        with pytest.raises(pa.ArrowInvalid, match="not in the table's own folder"):
            open_iceberg(folder, None)


def test_deletion_vectors_are_refused_and_not_passed_over(tmp_path: Path, read: Read) -> None:
    table = delta(tmp_path / "table")
    with_deletion_vector(table)
    with pytest.raises(InvalidInput, match="deletionVectors") as refusal:
        read(table, "delta")
    assert refusal.value.remedy
    # A version from before them has all its rows.
    assert read(table, "delta", "0") == ([1, 2, 3], Converted(True, "0"))


def test_rows_that_iceberg_deletes_by_position_are_left_out(tmp_path: Path, read: Read) -> None:
    with iceberg(tmp_path / "house") as table:
        folder = tmp_path / "house" / "db" / "t"
        before = str(table.current_snapshot().snapshot_id)
        file = next(
            name
            for name in (task.file.file_path for task in table.scan().plan_files())
            if pq.read_table(name.removeprefix("file://")).column("x").to_pylist() == [1]
        )
        delete_by_position(table, folder, file, 0)
        assert read(folder, "iceberg")[0] == [2]
        assert read(folder, "iceberg", before)[0] == [1, 2]


def test_rows_that_iceberg_deletes_by_value_are_refused(tmp_path: Path, read: Read) -> None:
    with iceberg(tmp_path / "house") as table:
        folder = tmp_path / "house" / "db" / "t"
        before = str(table.current_snapshot().snapshot_id)
        delete_by_value(table, folder, 2)
        with pytest.raises(InvalidInput, match="equality deletes") as refusal:
            read(folder, "iceberg")
        assert refusal.value.remedy
        assert read(folder, "iceberg", before)[0] == [1, 2]


def test_the_kernel_itself_lets_a_table_read_no_file_elsewhere(tmp_path: Path) -> None:
    """What stands behind the looks at names: after a conversion its process is tried."""
    program = (
        "import sys; from pathlib import Path\n"
        "from aiaas_hub.adapters.duckdb_queries.confinement import confine\n"
        "from aiaas_hub.adapters.duckdb_queries.worker import Worker\n"
        "table, outside, own = map(Path, sys.argv[1:])\n"
        "Worker(own, 1 << 30, 1, 0).convert("
        "str(table), 'delta', str(own / 'made'), 1 << 30, {}, None)\n"
        "try:\n    outside.read_bytes()\nexcept PermissionError:\n    print('refused')\n"
        # Once confined it can be asked again; where the kernel cannot, it says so.
        "print(confine([table], own))\n"
    )
    table, outside = delta(tmp_path / "table"), stranger(tmp_path / "outside.parquet")
    (tmp_path / "own").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(table), str(outside), str(tmp_path / "own")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    if done.stdout == "False\n":
        pytest.skip("this kernel has no Landlock")
    assert done.stdout.split() == ["refused", "True"]
    assert (tmp_path / "own" / "made").exists()


def test_what_is_no_table_is_said(tmp_path: Path, read: Read) -> None:
    (tmp_path / "nothing").mkdir()
    for place, format_ in (("nothing", "delta"), ("nothing", "iceberg"), ("file", "delta")):
        stranger(tmp_path / "file")
        with pytest.raises(InvalidInput, match=f"not readable as {format_}") as refusal:
            read(tmp_path / place, format_)
        assert str(tmp_path) not in refusal.value.message


def test_an_empty_table_has_columns(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake(str(tmp_path / "empty"), rows(1).slice(0, 0))
    assert convert(tmp_path / "empty", "delta", tmp_path / "out.parquet", 1 << 20) == (True, "0")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0
