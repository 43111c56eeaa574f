"""Data from elsewhere: a real S3 server, a web server, and addresses that lead where they must
not."""

from __future__ import annotations

import http.server
import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import lake_tables
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import World, serving

from aiaas_hub.adapters.remote_files import RemoteFiles
from aiaas_hub.home import Home
from aiaas_hub.loopback import free_ports
from aiaas_hub.schemas.errors import AiaasError, InvalidInput, NotFound, TooLarge, Unavailable

SECRET = "canary-secret-key"


def parquet(rows: range) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": list(rows)}), sink)
    return sink.getvalue()


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/rows.csv": (200, {}, b"a,b\n1,x\n2,y\n"),
            "/rows": (200, {}, parquet(range(3))),
            "/large.csv": (200, {}, b"a\n" + b"1\n" * 100_000),
            "/onwards": (302, {"Location": "/rows.csv"}, b""),
            "/inwards": (302, {"Location": "http://127.0.0.1:9/latest/meta-data"}, b""),
            "/file": (302, {"Location": "file:///etc/passwd"}, b""),
            "/round": (302, {"Location": "/round"}, b""),
        }
        status, headers, body = answers.get(self.path.partition("?")[0], (404, {}, b"none"))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests say what they did themselves."""


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(files: RemoteFiles, uri: str, tmp_path: Path, limit: int = 1 << 20) -> list[bytes]:
    directory = tmp_path / "fetched"
    directory.mkdir(exist_ok=True)
    return [path.read_bytes() for path in files.fetch(uri, directory, limit)]


def at(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    return lambda host, port: addresses


def test_a_host_that_the_operator_allows_is_read(web: int, tmp_path: Path) -> None:
    files = RemoteFiles({}, ["data.example"], resolve=at("127.0.0.1"))
    base = f"http://data.example:{web}"
    assert fetched(files, f"{base}/rows.csv", tmp_path) == [b"a,b\n1,x\n2,y\n"]
    assert fetched(files, f"{base}/onwards", tmp_path) == [b"a,b\n1,x\n2,y\n"]
    with pytest.raises(TooLarge):
        fetched(files, f"{base}/large.csv", tmp_path, limit=1000)
    with pytest.raises(NotFound, match="404"):
        fetched(files, f"{base}/nothing", tmp_path)
    with pytest.raises(InvalidInput, match="more than 5 times"):
        fetched(files, f"{base}/round", tmp_path)
    # Each redirect is an address of its own, which nobody allowed.
    for way in ("inwards", "file"):
        with pytest.raises(InvalidInput):
            fetched(files, f"{base}/{way}", tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://127.1/x",
        "https://0/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[fe80::1]/x",
        "https://[64:ff9b:1::7f00:1]/x",
        "https://[64:ff9b::7f00:1]/x",
        "https://[2002:7f00:1::]/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/x",
        "https://192.168.1.1/x",
        "https://100.64.0.1/x",
        "https://224.0.0.1/x",
        "http://1.1.1.1/x",
        "https://user:password@1.1.1.1/x",
        "ftp://1.1.1.1/x",
        "gopher://1.1.1.1/x",
        "s3://elsewhere/x",
        "hdfs://127.0.0.1/x",
        "webhdfs://127.0.0.1:9870/x",
        "data:text/csv,a",
    ],
)
def test_addresses_that_lead_where_they_must_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """With the machine's own resolver, which reads each form; and nothing is connected to."""

    def connected(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(httpx.Client, "stream", connected)
    with pytest.raises(InvalidInput) as refusal:
        fetched(RemoteFiles({}, []), uri, tmp_path)
    assert refusal.value.remedy
    assert "password" not in str(refusal.value) or "no password" in str(refusal.value)


def test_the_connection_goes_to_the_address_that_was_looked_at(
    web: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that has another address when it is asked again: it is not asked again."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["93.184.215.14"] if len(asked) == 1 else ["127.0.0.1"]

    urls: list[httpx.URL] = []

    def remember(_: httpx.Client, method: str, url: httpx.URL, **arguments: Any) -> Any:
        urls.append(url)
        assert arguments["headers"]["Host"] == "rebinding.example"
        assert arguments["extensions"] == {"sni_hostname": "rebinding.example"}
        raise httpx.ConnectError("not from here")

    monkeypatch.setattr(httpx.Client, "stream", remember)
    with pytest.raises(Unavailable):
        fetched(RemoteFiles({}, [], resolve=rebinding), "https://rebinding.example/x.csv", tmp_path)
    assert [url.host for url in urls] == ["93.184.215.14"]
    assert len(asked) == 1
    # One public address among others is not enough.
    mixed = RemoteFiles({}, [], resolve=at("93.184.215.14", "10.0.0.1"))
    with pytest.raises(InvalidInput):
        fetched(mixed, "https://mixed.example/x.csv", tmp_path)
    assert len(urls) == 1


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A real S3 server with a bucket `open` and a bucket `closed`."""
    program = Path(sys.executable).with_name("rclone")
    root = tmp_path_factory.mktemp("s3")
    for bucket in ("open", "closed"):
        (root / bucket / "table").mkdir(parents=True)
    for number in range(3):
        part = root / "open" / "table" / f"part-{number}.parquet"
        part.write_bytes(parquet(range(number * 10, number * 10 + 10)))
    (root / "open" / "table" / "_SUCCESS").write_text("")
    (root / "open" / "rows.csv").write_text("a\n1\n")
    (root / "closed" / "rows.csv").write_text("secret\n1\n")
    # All of them before it starts: it remembers what was in a folder.
    lake_tables.delta(root / "open" / "lake")
    lake_tables.names_also(
        lake_tables.delta(root / "open" / "hostile"), "s3://closed/outside.parquet"
    )
    lake_tables.stranger(root / "closed" / "outside.parquet")
    with lake_tables.iceberg(root / "open" / "house"):
        pass
    (port,) = free_ports(1)
    server = subprocess.Popen(
        [str(program), "serve", "s3", f"--auth-key=access,{SECRET}", f"--addr=127.0.0.1:{port}",
         "--config=", str(root)],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    options = {
        "endpoint_override": f"http://127.0.0.1:{port}",
        "access_key": "access",
        "secret_key": SECRET,
        "region": "us-east-1",
    }
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(options["endpoint_override"])
            break
        except httpx.TransportError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield options
    server.kill()
    server.wait()
    assert server.stderr is not None
    server.stderr.close()


def test_objects_below_an_allowed_prefix_become_datasets(
    s3: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    with serving(Home(tmp_path / "home"), url) as world:
        remote: Any = world.services.bringing._remote
        remote._sources["s3://open"] = s3

        def register(world: World, name: str, uri: str) -> Any:
            return world.call("POST", f"/datasets/alice/{name}/versions", json={"uri": uri})

        made = register(world, "whole", "s3://open/table/")
        assert made.status_code == 201, made.text
        assert made.json()["latest"]["rows"] == 30
        shown = world.ok("GET", "/datasets/alice/whole/preview?n=30")
        assert [row[0] for row in shown["rows"]] == list(range(30))
        csv = register(world, "rows", "s3://open/rows.csv").json()["latest"]
        assert (csv["format"], csv["source"]) == ("csv", "s3://open/rows.csv")
        for uri, status in {
            "s3://closed/rows.csv": 400,
            "s3://open/../closed/rows.csv": 400,
            "s3://open/%2e%2e/closed/rows.csv": 400,
            "s3://openly/rows.csv": 400,
            "s3://open/nothing.csv": 404,
        }.items():
            answer = register(world, "bad", uri)
            assert answer.status_code == status, answer.text
            assert SECRET not in answer.text
        remote._sources["s3://open"] = {**s3, "secret_key": "wrong"}
        denied = register(world, "bad", "s3://open/rows.csv")
        assert denied.status_code in (404, 503), denied.text
        assert world.call("GET", "/datasets/alice/bad").status_code == 404
        assert SECRET not in (tmp_path / "records.sqlite").read_bytes().decode("latin-1")
        assert SECRET not in caplog.text


def test_a_table_in_an_object_store_has_its_own_objects_only(
    s3: dict[str, Any], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    with serving(Home(tmp_path / "home"), url) as world:
        remote: Any = world.services.bringing._remote
        remote._sources["s3://open"] = s3

        def register(**body: str) -> Any:
            return world.call("POST", "/datasets/alice/lake/versions", json=body)

        # As it stands there, without saying what it is: not all the files that lie in it.
        answer = register(uri="s3://open/lake")
        assert answer.status_code == 201, answer.text
        made = answer.json()["latest"]
        assert (made["format"], made["rows"], made["origin"]["snapshot"]) == ("delta", 3, "2")
        older = register(uri="s3://open/lake", snapshot="1").json()["latest"]
        assert (older["rows"], older["version"]) == (4, 2)
        house = register(uri="s3://open/house/db/t").json()["latest"]
        assert (house["format"], house["rows"]) == ("iceberg", 2)
        answer = register(uri="s3://open/hostile")
        assert answer.status_code == 400
        assert "not in the table's own folder" in answer.text
        assert SECRET not in answer.text
        assert register(uri="s3://closed/lake", format="delta").status_code == 400
        assert world.ok("GET", "/datasets/alice/lake")["latest"]["version"] == 3


def test_a_signed_address_is_not_recorded(web: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    with serving(Home(tmp_path / "home"), url) as world:
        remote: Any = world.services.bringing._remote
        remote._hosts, remote._resolve = frozenset({"data.example"}), at("127.0.0.1")
        uri = f"http://data.example:{web}/rows?signature={SECRET}"
        made = world.ok("POST", "/datasets/alice/web/versions", json={"uri": uri})
        assert made["latest"]["rows"] == 3
        assert made["latest"]["source"] == "http://data.example/rows"
        assert SECRET not in str(world.ok("GET", "/datasets/alice/web"))
        inwards = {"uri": "https://127.0.0.1/x"}
        again = world.call("POST", "/datasets/alice/web/versions", json=inwards)
        assert again.status_code == 400


def test_parts_with_other_columns_are_refused(s3: dict[str, Any], tmp_path: Path) -> None:
    from aiaas_hub.adapters.columnar import ArrowTables

    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pq.write_table(pa.table({"x": [1]}), paths[0])
    pq.write_table(pa.table({"y": [1]}), paths[1])
    with pytest.raises(AiaasError, match=r"b\.parquet has other columns"):
        ArrowTables().concatenate(paths, tmp_path / "whole.parquet")
