"""Users' own secrets: what is set is used at a real server, and is to be found nowhere else."""

from __future__ import annotations

import http.server
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jwt
import pytest
from api_world import World, serving
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import text
from store_servers import AZURE_ACCOUNT, AZURE_KEY, azurite

from aiaas_hub.adapters.object_stores import google_token
from aiaas_hub.adapters.sealing import FernetSealer
from aiaas_hub.home import Home
from aiaas_hub.local.secret_keys import rotate
from aiaas_hub.schemas.errors import InvalidInput, Unavailable

SECRET = "canary-of-a-secret-value"


@pytest.fixture
def world(tmp_path: Path, records_url: str) -> Iterator[World]:
    with serving(Home(tmp_path / "home"), records_url) as made:
        yield made


def put(world: World, name: str, kind: str, by: str = "alice", **values: str) -> Any:
    body = {"kind": kind, "values": values}
    return world.call("PUT", f"/secrets/{by}/{name}", f"user:{by}", json=body)


def register(world: World, uri: str, secret: str | None, token: str = "user:alice") -> Any:
    owner = token.partition(":")[2]
    body = {"uri": uri, **({"secret": secret} if secret else {})}
    return world.call("POST", f"/datasets/{owner}/rows/versions", token, json=body)


def stored(world: World) -> str:
    """All that the records and the platform's home hold, but for the key."""
    with world.database.engine.connect() as connection:
        tables = [
            name
            for name in world.database.engine.dialect.get_table_names(connection)
            if not name.startswith("alembic")
        ]
        rows = [str(list(connection.execute(text(f'SELECT * FROM "{t}"')))) for t in tables]  # noqa: S608
    files = [path for path in world.home.root.rglob("*") if path.is_file()]
    return "".join(rows) + "".join(path.read_bytes().decode("latin-1") for path in files)


def test_a_secret_is_kept_and_never_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = put(world, "lab", "s3", access_key="AKIA", secret_key=SECRET)
    assert made.status_code == 200, made.text
    assert set(made.json()) == {"owner", "name", "kind", "created_at", "updated_at", "used_at"}
    assert [one["name"] for one in world.ok("GET", "/secrets")["items"]] == ["lab"]
    assert world.ok("GET", "/secrets", "user:bob")["items"] == []
    for wrong in (
        {"access_key": SECRET},
        {"access_key": "AKIA", "secret_key": SECRET, "endpoint_override": "http://127.0.0.1"},
        {"access_key": "AKIA", "secret_key": f"{SECRET}\nX-Header: y"},
        {"access_key": "AKIA", "secret_key": SECRET * 2000},
    ):
        refused = put(world, "lab", "s3", **wrong)
        assert refused.status_code == 400
        assert SECRET not in refused.text
    for strange in ("%00", "a%20b", "-x"):
        assert world.call("DELETE", f"/secrets/alice/{strange}").status_code == 400
        assert world.call("GET", f"/secrets?cursor={strange}").status_code == 400
    assert put(world, "thing", "ftp", token=SECRET).status_code == 400
    # Somebody else's is not there, to look at, use, change or delete.
    assert world.call("DELETE", "/secrets/alice/lab", "user:bob").status_code == 404
    assert register(world, "s3://bucket/x", "lab", "user:bob").status_code == 404
    acts = world.ok("GET", "/audit")["items"]
    assert {one["object"] for one in acts if one["act"] == "put_secret"} >= {"secrets/alice/lab"}
    assert SECRET not in stored(world) + caplog.text + json.dumps(acts)
    assert world.ok("DELETE", "/secrets/alice/lab")["name"] == "lab"
    assert world.call("DELETE", "/secrets/alice/lab").status_code == 404
    assert world.ok("GET", "/secrets")["items"] == []


def test_a_sealed_row_opens_for_its_owner_and_unchanged_only(world: World) -> None:
    put(world, "lab", "https", token=SECRET)
    put(world, "lab", "https", "bob", token="bobs")
    secrets = world.services.secrets
    assert secrets.credentials("alice", "lab", "https") == {"token": SECRET}
    with pytest.raises(InvalidInput, match="is for https"):
        secrets.credentials("alice", "lab", "s3")
    give = "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE owner = 'alice') "
    with world.database.engine.begin() as connection:
        connection.execute(text(f"{give} WHERE owner = 'bob'"))
    with pytest.raises(Unavailable):
        secrets.credentials("bob", "lab", "https")
    with world.database.engine.begin() as connection:
        connection.execute(text("UPDATE secrets SET sealed = :sealed"), {"sealed": b"gAAAAnot"})
    with pytest.raises(Unavailable):
        secrets.credentials("alice", "lab", "https")
    used = {one["name"]: one["used_at"] for one in world.ok("GET", "/secrets")["items"]}
    assert used["lab"] is not None


def test_the_key_is_the_platforms_own_and_rotates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    with serving(home, home.records_url) as world:
        put(world, "lab", "https", token=SECRET)
        file = home.secret_file("storage_keys")
        assert file.stat().st_mode & 0o777 == 0o600
        (first,) = file.read_text().split()
        said: list[str] = []
        assert rotate(home, said.append) == 0
        _, former = file.read_text().split()
        assert (former, file.stat().st_mode & 0o777) == (first, 0o600)
        assert rotate(home, said.append) == 0
        # The first key is gone, and the service, which runs on, reads all the same.
        assert first not in file.read_text()
        assert world.services.secrets.credentials("alice", "lab", "https") == {"token": SECRET}
        file.write_text(Fernet.generate_key().decode())
        with pytest.raises(Unavailable, match="another one"):
            world.services.secrets.credentials("alice", "lab", "https")
        assert rotate(home, said.append) == 1
        assert SECRET not in "".join(said)


def test_a_key_of_the_operators_is_not_made_here(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        FernetSealer(tmp_path / "keys", own=False).seal(b"x")
    (tmp_path / "keys").write_text("not a key")
    with pytest.raises(Unavailable, match="cannot be read") as refusal:
        FernetSealer(tmp_path / "keys", own=False).seal(b"x")
    assert "not a key" not in str(refusal.value)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[World]:
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as made:
        yield made


def test_azure_is_read_with_the_users_own_key(
    own: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with azurite(tmp_path) as (files, where):
        files.create_dir("mine")
        with files.open_output_stream("mine/rows.csv") as stream:
            stream.write(b"a\n1\n")
        uri = f"abfss://mine@{AZURE_ACCOUNT}.dfs.core.windows.net/rows.csv"
        remote: Any = own.services.bringing._remote
        remote._secret_sources = {"abfss://": where}
        assert put(own, "lake", "abfss", account_key=AZURE_KEY).status_code == 200
        put(own, "wrong", "abfss", account_key="d3Jvbmc=")
        # Nothing without it, nor with a wrong one, nor with one for another place.
        assert register(own, uri, None).status_code == 400
        refused = register(own, uri, "wrong")
        assert (refused.status_code, "d3Jvbmc" in refused.text) == (503, False)
        assert own.call("GET", "/datasets/alice/rows").status_code == 404
        made = register(own, uri, "lake")
        assert made.status_code == 201, made.text
        # A place of the operator's is none for a secret: the other credentials are not used.
        remote._secret_sources, remote._sources = {}, {uri.rpartition("/")[0]: where}
        assert register(own, uri, "lake").status_code == 400
        assert AZURE_KEY not in stored(own) + caplog.text + made.text
        # Whom it is shared with reads the copy: the secret may be gone.
        own.ok("DELETE", "/secrets/alice/lake")
        own.ok("PATCH", "/datasets/alice/rows", json={"visibility": "everyone"})
        shown = own.ok("GET", "/datasets/alice/rows/preview", "user:bob")
        assert shown["rows"] == [[1]]


class Guarded(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.seen.append((self.headers["Host"].partition(":")[0], given))
        port = self.server.server_address[1]
        if self.path == "/onwards.csv":
            self.send_response(302)
            self.send_header("Location", f"http://other.example:{port}/rows.csv")
            self.end_headers()
            return
        allowed = given == f"Bearer {SECRET}" or self.headers["Host"].startswith("other.")
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(b"a\n1\n")

    def log_message(self, *_: object) -> None:
        """Tests say what they did themselves."""


def test_a_token_goes_to_the_host_that_was_named_and_no_further(own: World) -> None:
    Guarded.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        remote: Any = own.services.bringing._remote
        remote._hosts = frozenset({"data.example", "other.example"})
        remote._resolve = lambda host, port: ["127.0.0.1"]
        base = f"http://data.example:{server.server_port}"
        put(own, "site", "https", token=SECRET)
        # A token over http could be read on its way; what the operator allows is no consent.
        assert register(own, f"{base}/rows.csv", "site").status_code == 400
        assert Guarded.seen == []
        credentials = {"token": SECRET}
        target = own.home.root / "fetched"
        remote._download(f"{base}/onwards.csv", target, 1 << 20, credentials)
        assert target.read_bytes() == b"a\n1\n"
        assert Guarded.seen == [("data.example", f"Bearer {SECRET}"), ("other.example", None)]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_google_key_signs_for_itself() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    account = {
        "type": "service_account",
        "client_email": "ada@project.iam.gserviceaccount.com",
        "private_key_id": "one",
        "private_key": pem,
        "token_uri": "http://127.0.0.1/steal",
    }
    token = google_token(json.dumps(account))
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"])
    assert claims["sub"] == account["client_email"]
    assert claims["scope"].endswith("devstorage.read_only")
    assert time.time() < claims["exp"] <= time.time() + 3600
    # Other kinds of Google's credentials run programs and ask addresses.
    for wrong in (
        {**account, "type": "external_account", "credential_source": {"executable": "id"}},
        {**account, "private_key": "none"},
        {},
    ):
        with pytest.raises(InvalidInput, match="no key of a Google service account"):
            google_token(json.dumps(wrong))
    with pytest.raises(InvalidInput):
        google_token(os.devnull)
