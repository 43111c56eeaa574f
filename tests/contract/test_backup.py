"""A platform's state into one file and back, with the records in each kind of database."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from api_world import World, serving
from sqlalchemy import text

from aiaas_hub.adapters.records.audit import SqlAuditRecords
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.domain.auditing import verify
from aiaas_hub.home import Home
from aiaas_hub.local.backup import back_up, restore
from aiaas_hub.local.platform import hold
from aiaas_hub.schemas.errors import AiaasError, Conflict, InvalidInput, NotFound

QUIET = {"say": lambda text: None}


def stock(world: World) -> dict[str, Any]:
    """What alice made, and files of a platform's other parts."""
    home = world.home
    with sqlite3.connect(home.hub / "jupyterhub.sqlite") as hub:
        hub.execute("CREATE TABLE users (name TEXT)")
        hub.execute("INSERT INTO users VALUES ('alice')")
    hub.close()
    home.secret("jobs_key")
    notebook = home.notebooks / "alice" / "a b.ipynb"
    notebook.parent.mkdir(parents=True)
    notebook.write_text("{}")
    script = home.notebooks / "alice" / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    (home.notebooks / "alice" / "link").symlink_to("/etc/passwd")
    os.mkfifo(home.notebooks / "alice" / "pipe")
    served = home.triton / "models" / "m" / "1"
    served.mkdir(parents=True)
    (served / "model.onnx").write_bytes(b"onnx")
    (home.root / "quotas.yaml").write_text("default: {endpoints: 9}\n")
    return {"dataset": world.dataset(), "run": world.submit(), "endpoint": world.published()}


@pytest.fixture
def stocked(tmp_path: Path) -> Home:
    """A home with its records in it, and nobody at work."""
    home = Home(tmp_path / "home")
    with serving(home, home.records_url) as world:
        stock(world)
    return home


def contents(home: Home) -> dict[str, bytes]:
    return {
        path.relative_to(home.root).as_posix(): path.read_bytes()
        for path in home.root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "lock"
    }


def test_what_comes_back_is_what_was(stocked: Home, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    said: list[str] = []
    assert back_up(stocked, file, with_notebooks=True, say=said.append) == 0
    assert "keys" in said[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = contents(stocked)
    fresh = Home(tmp_path / "fresh" / "home")
    restore(fresh, file, replace=False, **QUIET)
    after = contents(fresh)
    databases = {"records.sqlite", "hub/jupyterhub.sqlite"}
    beside = {"records.sqlite-wal", "records.sqlite-shm"}
    assert (
        set(after) - beside == {n for n in before if not n.startswith("artifacts/cache")} - beside
    )
    for name in set(after) - databases - beside:
        assert after[name] == before[name], name
    assert (fresh.notebooks / "alice" / "run.sh").stat().st_mode & 0o100
    assert not (fresh.notebooks / "alice" / "link").exists()
    for path in (fresh.root, fresh.secrets, fresh.secrets / "jobs_key"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    with sqlite3.connect(fresh.hub / "jupyterhub.sqlite") as hub:
        assert hub.execute("SELECT name FROM users").fetchall() == [("alice",)]
    hub.close()
    with serving(fresh, fresh.records_url) as world:
        assert world.ok("GET", "/datasets/alice/digits/preview")["rows"]
        assert world.ok("GET", "/endpoints/alice/digits")["state"] == "serving"
        assert world.ok("GET", "/runs")["items"]
        assert not verify(world.services.audit).problem


def test_records_go_from_each_kind_of_database_into_each(
    records_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    with serving(home, records_url) as world:
        made = stock(world)
        (home.root / "aiaas_config.py").write_text(f"c.ServiceConfig.records_url = {records_url!r}")
        file = tmp_path / "backup.zip"
        # While it is at work.
        back_up(home, file, with_notebooks=False, **QUIET)
    fresh = Home(tmp_path / "fresh")
    if records_url.startswith("postgresql"):
        with pytest.raises(Conflict, match="holds records already"):
            restore(fresh, file, replace=False, **QUIET)
        database = Database(records_url)
        with database.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        database.close()
    else:
        Path(records_url.removeprefix("sqlite:///")).unlink()
    restore(fresh, file, replace=True, **QUIET)
    assert not (fresh.notebooks / "alice").exists()
    database = Database(records_url)
    assert not verify(SqlAuditRecords(database)).problem
    database.close()
    with serving(fresh, records_url) as world:
        assert world.ok("GET", f"/runs/{made['run']['id']}")["name"] == "cnn"
        # Keys count on from where they were.
        world.dataset("another")
        world.submit()
        assert not verify(world.services.audit).problem


def test_a_platform_that_runs_or_is_there_is_not_written_over(
    stocked: Home, tmp_path: Path
) -> None:
    file = tmp_path / "backup.zip"
    back_up(stocked, file, with_notebooks=True, **QUIET)
    before = contents(stocked)
    lock = hold(stocked)
    with pytest.raises(Conflict, match="runs on"):
        restore(stocked, file, replace=True, **QUIET)
    lock.close()
    with pytest.raises(Conflict, match="--replace"):
        restore(stocked, file, replace=False, **QUIET)
    assert contents(stocked) == before
    (stocked.notebooks / "alice" / "later.txt").write_text("later")
    restore(stocked, file, replace=True, **QUIET)
    assert not (stocked.notebooks / "alice" / "later.txt").exists()
    [former] = tmp_path.glob("home.before-*")
    assert (former / "notebooks" / "alice" / "later.txt").read_text() == "later"


def rewritten(source: Path, target: Path, change: Any) -> Path:
    """The same backup with `change(members, manifest)` made to it."""
    with zipfile.ZipFile(source) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("manifest.json", json.dumps(manifest))
    return target


def slip(name: str) -> Any:
    def change(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        members[name] = b"evil"
        manifest["members"][name] = manifest["members"]["quotas.yaml"] | {"size": 4}

    return change


def unlisted(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["secrets/more"] = b"x"


def missing(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    del members["quotas.yaml"]


def changed(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["quotas.yaml"] = members["quotas.yaml"].replace(b"9", b"8")


def bomb(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["quotas.yaml"] = b"\0" * (8 << 20)


def later_format(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["format"] = 2


@pytest.mark.parametrize(
    "change",
    [
        slip("../evil"), slip("notebooks/../../evil"), slip("/evil"), slip("secrets\\..\\evil"),
        slip("processes/evil.json"), slip("notebooks//evil"), unlisted, missing, changed, bomb,
        later_format,
    ],
)  # fmt: skip
def test_a_file_that_was_tampered_with_changes_nothing(
    stocked: Home, tmp_path: Path, change: Any
) -> None:
    file = tmp_path / "backup.zip"
    back_up(stocked, file, with_notebooks=True, **QUIET)
    evil = rewritten(file, tmp_path / "evil.zip", change)
    before = contents(stocked)
    fresh = Home(tmp_path / "fresh" / "home")
    for home in (stocked, fresh):
        with pytest.raises(InvalidInput):
            restore(home, evil, replace=True, **QUIET)
    assert contents(stocked) == before
    assert list((tmp_path / "fresh").iterdir()) == []
    assert not list(tmp_path.rglob("evil"))
    assert not list(tmp_path.glob("home.*"))


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 1000])
def test_what_is_no_backup_says_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "no.zip"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="not a backup"):
        restore(Home(tmp_path / "home"), file, replace=False, **QUIET)
    with pytest.raises(NotFound):
        restore(Home(tmp_path / "home"), tmp_path / "nothing", replace=False, **QUIET)


def test_a_cut_off_backup_is_refused(stocked: Home, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    back_up(stocked, file, with_notebooks=True, **QUIET)
    content = file.read_bytes()
    for part in (len(content) // 2, len(content) - 10):
        file.write_bytes(content[:part])
        with pytest.raises(AiaasError):
            restore(Home(tmp_path / "fresh"), file, replace=False, **QUIET)
    assert not (tmp_path / "fresh").exists()


def test_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no platform"):
        back_up(Home(tmp_path / "none"), tmp_path / "b.zip", with_notebooks=True, **QUIET)
    assert not (tmp_path / "b.zip").exists()
