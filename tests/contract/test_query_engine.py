"""What a query's process may do. Each layer is tried alone: behind the statement's check stand
DuckDB's own locks, and behind those the kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiaas_hub.adapters.duckdb_queries.engine import DuckDbQueries, DuckDbSession, QueryLimits
from aiaas_hub.adapters.duckdb_queries.statement import Refused, tables_of
from aiaas_hub.schemas.errors import AiaasError, InvalidInput, TooLarge, Unavailable

MIB = 1 << 20


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def mine(directory: Path) -> Path:
    path = directory / "mine"
    pq.write_table(pa.table({"x": range(100), "name": [f"n{i % 7}" for i in range(100)]}), path)
    return path


@pytest.fixture(scope="module")
def theirs(directory: Path) -> Path:
    path = directory / "theirs.parquet"
    pq.write_table(pa.table({"secret": ["hunter2"]}), path)
    return path


@pytest.fixture(scope="module")
def session(directory: Path, mine: Path) -> Iterator[DuckDbSession]:
    """A process that has one dataset, asked without the statement's check."""
    engine = DuckDbQueries(directory / "queries", QueryLimits(seconds=300))
    with engine.session() as session:
        session.attach({(None, "mine"): mine, ("bob", 'O\'Brien "x"'): mine})
        yield session


STATEMENTS = [
    "COPY mine TO '/tmp/stolen.csv'",
    "WITH x AS (COPY (SELECT 1) TO '/tmp/stolen.csv') SELECT 1",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '/tmp/stolen.csv') SELECT 1)",
    "WITH x AS (INSERT INTO mine VALUES (1, 'a') RETURNING *) SELECT * FROM x",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('mine')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM glob('/tmp/*')",
    "SELECT * FROM mine, LATERAL read_text('/etc/passwd')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT current_setting('allowed_paths')",
    "SELECT getenv('HOME')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "ATTACH '/tmp/other.db'",
    "SET threads = 64",
    "RESET allowed_paths",
    "PRAGMA memory_limit='100GB'",
    "CALL pragma_version()",
    "CREATE TABLE t AS SELECT 1",
    "CREATE SECRET s (TYPE s3)",
    "EXPORT DATABASE '/tmp/stolen'",
    "IMPORT DATABASE '/tmp/stolen'",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "SELECT 1; SELECT 2",
    "DROP VIEW mine",
    "SELECT * FROM a.b.c",
    "SELEC 1",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_query_is_one_select_of_datasets(sql: str) -> None:
    with pytest.raises(Refused) as refusal:
        tables_of(sql)
    assert str(refusal.value)


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM a JOIN bob.b USING (x)", {(None, "a"), ("bob", "b")}),
        (
            'SELECT * FROM "my-data@3" m, "O\'Brien"."x""y"',
            {(None, "my-data@3"), ("O'Brien", 'x"y')},
        ),
        ("WITH a AS (SELECT 1) SELECT * FROM a", set()),
        ("WITH a AS (SELECT * FROM b) SELECT * FROM a, bob.a", {(None, "b"), ("bob", "a")}),
        ("FROM t SELECT x WHERE x > (SELECT avg(x) FROM u)", {(None, "t"), (None, "u")}),
        ("SUMMARIZE t", {(None, "t")}),
        ("PIVOT t ON x IN (1, 2) USING sum(y)", {(None, "t")}),
        ("SELECT * FROM 'file.parquet'", {(None, "file.parquet")}),
        ("SELECT * FROM range(3) r, unnest([1]) u", set()),
        ("SELECT 1; -- and no more", set()),
    ],
)
def test_the_tables_of_a_query(sql: str, tables: set[tuple[str | None, str]]) -> None:
    assert set(tables_of(sql)) == tables


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT * FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM read_text('/proc/self/environ')", "disabled by configuration"),
        ("SELECT * FROM read_parquet('{theirs}')", "disabled by configuration"),
        ("SELECT * FROM '{theirs}'", "disabled by configuration"),
        ("SELECT * FROM glob('/tmp/*')", "disabled by configuration"),
        ("COPY mine TO '{theirs}' (FORMAT parquet, USE_TMP_FILE false)", "disabled by conf"),
        ("INSTALL httpfs", "disabled by configuration"),
        ("LOAD httpfs", "disabled through configuration"),
        ("ATTACH '/tmp/other.db'", "disabled by configuration"),
        ("EXPORT DATABASE '/tmp/stolen'", "disabled by configuration"),
        ("CREATE PERSISTENT SECRET s (TYPE http)", "disabled|read-only|not"),
        ("SELECT getenv('HOME')", "does not exist"),
        ("SET enable_external_access = true", "locked|Cannot change"),
        ("SET allowed_directories = ['/']", "locked|Cannot change"),
        ("PRAGMA threads = 64", "locked|Cannot change"),
        ("CREATE TABLE t AS SELECT 1", "read-only"),
        ("SELECT * FROM worker", "does not exist"),
    ],
)
def test_duckdb_itself_refuses(session: DuckDbSession, theirs: Path, sql: str, says: str) -> None:
    before = theirs.read_bytes()
    with pytest.raises(InvalidInput, match=says):
        session.rows(sql.format(theirs=theirs), 5)
    assert theirs.read_bytes() == before
    # A statement that failed does not end the query's process.
    assert session.rows("SELECT count(*) FROM mine", 1).rows == [[100]]


def has_landlock() -> bool:
    probe = "import ctypes; print(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return int(done.stdout) >= 3


@pytest.mark.skipif(not has_landlock(), reason="needs a kernel with Landlock (Linux 6.2)")
def test_the_kernel_keeps_a_query_from_writing_what_it_reads(
    session: DuckDbSession, mine: Path
) -> None:
    """DuckDB writes what it may read; only the statement's check and the kernel do not."""
    before = mine.read_bytes()
    attack = f"COPY (SELECT 1) TO '{mine}' (FORMAT parquet, USE_TMP_FILE false)"
    with pytest.raises(InvalidInput, match="ermission"):
        session.rows(attack, 1)
    assert mine.read_bytes() == before


@pytest.mark.skipif(not has_landlock(), reason="needs a kernel with Landlock (Linux 6.2)")
def test_the_kernel_confines_a_process(tmp_path: Path, mine: Path, theirs: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    program = f"""
import socket
from pathlib import Path
from aiaas_hub.adapters.duckdb_queries.confinement import confine
assert confine([Path({str(mine)!r})], Path({str(own)!r}))
(Path({str(own)!r}) / "new").write_text("x")
Path({str(mine)!r}).read_bytes()
for attempt in (
    lambda: Path({str(theirs)!r}).read_bytes(),
    lambda: Path("/etc/passwd").read_bytes(),
    lambda: Path("/proc/self/environ").read_bytes(),
    lambda: Path({str(mine)!r}).open("r+b"),
    lambda: Path({str(tmp_path)!r}, "other").write_text("x"),
    lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
):
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit("an attempt was not refused")
print("confined")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "confined\n", done.stderr


def test_a_query_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DuckDbQueries(tmp_path / "queries", QueryLimits(seconds=60))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "canary-in-the-environment")
    with engine.session() as session:
        assert session.tables("FROM t") == [(None, "t")]
        with pytest.raises(InvalidInput, match="a COPY") as refusal:
            session.tables("COPY t TO 'x'")
        assert refusal.value.remedy
        process = psutil.Process(session._process.pid)
        assert "canary" not in str(process.environ())
        assert "canary" not in str(process.cmdline())


def test_results_have_the_types_that_they_came_from(
    session: DuckDbSession, mine: Path, tmp_path: Path
) -> None:
    found = session.rows(
        'SELECT sum(x) AS total, now() - now() AS gap FROM bob."O\'Brien ""x"""', 3
    )
    assert found.rows == [[4950, "00:00:00"]]
    assert [column.type for column in found.columns] == ["int64", "string"]
    target = tmp_path / "out.parquet"
    sql = "SELECT x, name, x / 2 AS half FROM mine WHERE x < 4; -- the end"
    written = session.write(sql, target, rows=None, size=MIB, memory=MIB, like=mine)
    assert (written.rows, written.cut) == (4, "")
    assert pq.read_schema(target).field("x").type == pq.read_schema(mine).field("x").type
    twice = "SELECT a.x, b.x FROM mine a, mine b"
    with pytest.raises(InvalidInput, match="called 'x'"):
        session.write(twice, target, rows=None, size=MIB, memory=MIB)


@pytest.mark.parametrize(
    ("rows", "size", "memory", "cut"),
    [(10, MIB, MIB, "rows"), (None, 20_000, 1 << 40, "size"), (None, 1 << 40, 20_000, "size")],
)
def test_a_result_ends_at_its_limit_and_says_so(
    session: DuckDbSession, tmp_path: Path, rows: int | None, size: int, memory: int, cut: str
) -> None:
    target = tmp_path / "out.parquet"
    sql = "SELECT a.x, b.x AS y, c.x + random() AS z FROM mine a, mine b, mine c"
    written = session.write(sql, target, rows=rows, size=size, memory=memory)
    assert written.cut == cut
    assert pq.read_metadata(target).num_rows == written.rows < 1_000_000
    exact = session.write("FROM mine", target, rows=100, size=MIB, memory=MIB)
    assert (exact.rows, exact.cut) == (100, "")


def heavy(limits: QueryLimits, tmp_path: Path, sql: str) -> AiaasError:
    with DuckDbQueries(tmp_path / "queries", limits).session() as session:
        session.attach({})
        with pytest.raises(AiaasError) as refusal:
            session.rows(sql, 1)
    assert list((tmp_path / "queries").iterdir()) == []
    return refusal.value


ENDLESS = (
    "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range = -b.range - 1"
)


def test_a_query_ends_in_time(tmp_path: Path) -> None:
    # With what a busy machine takes until its process is there.
    error = heavy(QueryLimits(seconds=10), tmp_path, ENDLESS)
    assert isinstance(error, TooLarge)
    assert "longer than the 10 s" in error.message


def test_a_query_ends_before_the_memory_does(tmp_path: Path) -> None:
    limits = QueryLimits(seconds=60, memory_bytes=64 * MIB, spill_bytes=8 * MIB)
    sql = "SELECT max(l) FROM (SELECT list(random()) AS l FROM range(100000000))"
    error = heavy(limits, tmp_path, sql)
    assert isinstance(error, TooLarge)
    assert "memory" in error.message


def test_a_query_ends_when_nobody_waits(tmp_path: Path) -> None:
    gone = threading.Event()
    engine = DuckDbQueries(tmp_path / "queries", QueryLimits(seconds=60))
    with engine.session(gone.is_set) as session:
        session.attach({})
        threading.Timer(0.5, gone.set).start()
        with pytest.raises(Unavailable):
            session.rows(ENDLESS, 1)
        worker = session._process.pid
    assert not psutil.pid_exists(worker)


def test_a_query_dies_with_the_service(tmp_path: Path) -> None:
    program = f"""
import os, threading, signal
from pathlib import Path
from aiaas_hub.adapters.duckdb_queries.engine import DuckDbQueries, QueryLimits
with DuckDbQueries(Path({str(tmp_path / "queries")!r}), QueryLimits()).session() as session:
    session.attach({{}})
    print(session._process.pid, flush=True)
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    session.rows({ENDLESS!r}, 1)
"""
    service = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with service:
        assert service.stdout is not None
        worker = int(service.stdout.readline())
        service.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = list((tmp_path / "queries").iterdir())
    assert len(left) == 1
    DuckDbQueries(tmp_path / "queries", QueryLimits())
    assert not left[0].exists()
    assert os.listdir(tmp_path / "queries") == []
