"""Data in Azure Data Lake, Google Cloud Storage and HDFS: real servers, the operator's places and
nothing beside them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from api_world import serving
from store_servers import AZURE_ACCOUNT, AZURE_KEY, azurite, google, hdfs

from aiaas_hub.adapters.object_stores import open_store
from aiaas_hub.adapters.remote_files import RemoteFiles
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import InvalidInput


class Store:
    """A server: where its open part is, how a URI there is written, the operator's options."""

    def __init__(self, files: Any, place: str, root: str, options: dict[str, Any]) -> None:
        self.files, self.place, self.root, self.options = files, place, root, options


def fill(files: Any, root: str) -> None:
    files.create_dir(f"{root}/table", recursive=True)
    for number in range(3):
        sink = io.BytesIO()
        pq.write_table(pa.table({"x": range(number * 10, number * 10 + 10)}), sink)
        write(files, f"{root}/table/part-{number}.parquet", sink.getvalue())
    write(files, f"{root}/table/_SUCCESS", b"")
    write(files, f"{root}/rows.csv", b"a\n1\n")


def write(files: Any, path: str, content: bytes) -> None:
    with files.open_output_stream(path) as stream:
        stream.write(content)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with azurite(tmp_path_factory.mktemp("azure")) as (files, where):
        for container in ("open", "closed"):
            files.create_dir(container)
            fill(files, container)
        place = f"abfss://open@{AZURE_ACCOUNT}.dfs.core.windows.net"
        yield Store(files, place, "open", {**where, "account_key": AZURE_KEY})


@pytest.fixture(scope="module")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with google(tmp_path_factory.mktemp("google")) as (files, where):
        for bucket in ("open", "closed"):
            files.create_dir(bucket)
            fill(files, bucket)
        yield Store(files, "gs://open", "open", {**where, "anonymous": True})


@pytest.fixture(scope="module")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with hdfs(tmp_path_factory.mktemp("hdfs")) as (files, options):
        for folder in ("/open", "/closed"):
            fill(files, folder)
        place = f"webhdfs://127.0.0.1:{options['port']}/open"
        yield Store(files, place, "/open", {"user": options["user"]})


@pytest.fixture(params=["azure", "gs", "hadoop"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def test_what_is_below_an_allowed_place_becomes_a_dataset(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as world:
        remote: Any = world.services.bringing._remote
        remote._sources[store.place] = store.options

        def register(uri: str) -> Any:
            return world.call("POST", "/datasets/alice/rows/versions", json={"uri": uri})

        made = register(f"{store.place}/table")
        assert made.status_code == 201, made.text
        shown = world.ok("GET", "/datasets/alice/rows/preview?n=30")
        assert [row[0] for row in shown["rows"]] == list(range(30))
        csv = register(f"{store.place}/rows.csv").json()["latest"]
        assert (csv["format"], csv["rows"]) == ("csv", 1)
        # As it was written, with Azure's container; HDFS' port is no part of what is recorded.
        assert csv["source"].startswith(store.place.partition("127.0.0.1")[0])
        assert csv["source"].endswith("/rows.csv")
        assert register(f"{store.place}/nothing.csv").status_code == 404
        elsewhere = store.place.replace("open", "closed")
        for uri in (
            f"{elsewhere}/rows.csv",
            f"{store.place}/../closed/rows.csv",
            f"{store.place}/%2e%2e/closed/rows.csv",
            f"{store.place}ly/rows.csv",
            f"{store.place}/rows.csv?versionid=1",
        ):
            assert register(uri).status_code == 400, uri
        assert world.ok("GET", "/datasets/alice/rows")["latest"]["version"] == 2
    records = (tmp_path / "records.sqlite").read_bytes().decode("latin-1")
    assert AZURE_KEY not in records + caplog.text


def test_a_server_that_refuses_is_said_without_its_words(azure: Store, tmp_path: Path) -> None:
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as world:
        remote: Any = world.services.bringing._remote
        remote._sources[azure.place] = {**azure.options, "account_key": "d3Jvbmc="}
        body = {"uri": f"{azure.place}/rows.csv"}
        answer = world.call("POST", "/datasets/alice/rows/versions", json=body)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == f"{azure.place} cannot be read from right now."
        assert world.call("GET", "/datasets/alice/rows").status_code == 404


def test_hdfs_is_read_over_webhdfs(hadoop: Store, tmp_path: Path) -> None:
    """The port of an hdfs:// address is that of another protocol."""
    port = hadoop.place.rpartition(":")[2].partition("/")[0]
    place = "hdfs://127.0.0.1:8020/open"
    files = RemoteFiles({place: {"port": int(port), "user": "ada"}}, [])
    (path,) = files.fetch(f"{place}/rows.csv", tmp_path, 1 << 20)
    assert path.read_bytes() == b"a\n1\n"


def test_a_users_token_is_sent_to_hdfs(hadoop: Store) -> None:
    """Without Kerberos Hadoop does not look at it: that it is asked with is all that is seen."""
    files, path = open_store(f"{hadoop.place}/rows.csv", {}, {"token": "a-token"})
    assert files.handler.fs.pars == {"delegation": "a-token"}
    assert files.open_input_stream(path).read() == b"a\n1\n"


@pytest.mark.parametrize(
    "uri",
    [
        "abfss://open@elsewhere.example/x",
        "abfss://open@127.0.0.1/x",
        "abfss://a@b@account.dfs.core.windows.net/x",
        "webhdfs://127.0.0.1:9870/x",
        "hdfs://namenode/x",
        "gcs://bucket/x",
        "abfs://open@account.dfs.core.windows.net/x",
    ],
)
def test_a_whole_scheme_is_a_place_only_where_the_uri_names_no_machine(
    uri: str, tmp_path: Path
) -> None:
    sources: dict[str, dict[str, Any]] = {
        f"{scheme}://": {} for scheme in ("s3", "gs", "abfss", "webhdfs", "hdfs")
    }
    with pytest.raises(InvalidInput):
        RemoteFiles(sources, []).fetch(uri, tmp_path, 1 << 20)
