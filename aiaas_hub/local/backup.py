"""`aiaas backup` and `aiaas restore`: everything of a platform that cannot be made anew, in a file.

A ZIP file (so that any tool opens it) with, first, `manifest.json`: each member's size and SHA-256.

    records.sqlite             what the service knows; of PostgreSQL, copied into SQLite
    hub/jupyterhub.sqlite      users, groups, tokens
    secrets/…                  signing keys and passwords: WHO HAS THE FILE HAS THE PLATFORM
    artifacts/blobs/…          data, models, snapshots, unless they are in an object store
    triton/models/…            the model repository
    runs/…                     logs and checkpoints
    notebooks/…, shared/…      people's files, unless left out
    quotas.yaml, profiles.yaml, aiaas_config.py, envoy/port, hub-events/…

A backup may be taken while the platform runs. The records are copied first: what they name is
never changed or removed while they name it, so all of it is found after them. A restore is made
beside the home, checked, and takes its place by one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pydantic import BaseModel, ValidationError

from aiaas_hub import __version__
from aiaas_hub.adapters.records.copying import copy_records
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.config import read_config
from aiaas_hub.home import Home
from aiaas_hub.local.platform import hold
from aiaas_hub.schemas.errors import AiaasError, Conflict, InvalidInput, NotFound, Unavailable

Say = Callable[[str], None]

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 256 << 20
_BLOCK = 1 << 20
_RECORDS = "records.sqlite"
_HUB_DATABASE = "hub/jupyterhub.sqlite"
_TREES = ("secrets", "artifacts/blobs", "triton/models", "runs", "hub-events")
_PEOPLES = ("notebooks", "shared")
_FILES = ("quotas.yaml", "profiles.yaml", "aiaas_config.py", "envoy/port")


class Member(BaseModel):
    size: int
    sha256: str
    mode: int


class Manifest(BaseModel):
    format: Literal[1] = 1
    version: str
    made_at: datetime
    members: dict[str, Member]


def back_up(home: Home, file: Path, *, with_notebooks: bool, say: Say) -> int:
    """Write `file`, whole or not at all. Raises `NotFound` where there is no platform."""
    config = read_config(home)
    if not (home.root / _HUB_DATABASE).is_file():
        raise NotFound(f"There is no platform in {home.root}.", remedy="Set AIAAS_HOME.")
    aside = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    members: dict[str, Member] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="aiaas-backup-") as scratch:
            content = Path(scratch) / "content"
            descriptor = os.open(content, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w+b") as spool:
                with _archive(spool, "w") as archive:
                    for name, path in _databases(home, config.records_url, Path(scratch)):
                        _add(archive, name, path, members)
                    for name, path in _tree_files(home, with_notebooks):
                        _add(archive, name, path, members)
                spool.seek(0)
                _finish(aside, spool, members)
        aside.rename(file)
    except OSError as error:
        raise Unavailable(
            f"The backup cannot be written: {error.strerror or error}.",
            remedy="Nothing was changed; make room or name another file.",
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    total = sum(member.size for member in members.values())
    say(f"Wrote {file}: {len(members)} files, {total / 1e6:,.1f} MB. It holds the platform's keys.")
    if not Path(config.artifacts_url).is_relative_to(home.artifacts):
        say(f"Data and models are in {config.artifacts_url}, which is NOT in it: back that up too.")
    return 0


def restore(home: Home, file: Path, *, replace: bool, say: Say) -> int:
    """Put the backup into `home`. A home that is there is moved aside, if `replace` says so.

    Raises `Conflict` while a platform runs there, `InvalidInput` for a file that is no whole
    backup: then nothing was changed.
    """
    held = hold(home) if home.root.is_dir() else None
    try:
        occupied = (home.root / _HUB_DATABASE).exists() or (home.root / _RECORDS).exists()
        if occupied and not replace:
            raise Conflict(
                f"There is a platform in {home.root}.",
                remedy="Give --replace to move it aside, or set AIAAS_HOME to another directory.",
            )
        home.root.parent.mkdir(parents=True, exist_ok=True)
        beside = home.root.with_name(f"{home.root.name}.restoring-{secrets.token_hex(4)}")
        beside.mkdir(mode=0o700)
        try:
            manifest = _unpack(file, beside)
            former = _swap(home, beside)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    finally:
        if held is not None:
            held.close()
    records_url = read_config(home).records_url
    if records_url != home.records_url:
        _restore_records(home, records_url)
    say(f"Restored {len(manifest.members)} files of {manifest.made_at:%Y-%m-%d %H:%M} UTC.")
    if former is not None:
        say(f"What was there before is in {former}.")
    say("Start it: `aiaas up`. Then `aiaas audit verify` and `aiaas doctor` say whether all is so.")
    return 0


def _archive(file: IO[bytes], mode: Literal["r", "w"]) -> zipfile.ZipFile:
    return zipfile.ZipFile(file, mode, compression=zipfile.ZIP_DEFLATED, compresslevel=1)


def _databases(home: Home, records_url: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    records = scratch / _RECORDS
    if records_url == home.records_url:
        _copy_sqlite(home.root / _RECORDS, records)
    else:
        source, target = Database(records_url), Database(f"sqlite:///{records}")
        try:
            source.migrate()
            target.migrate()
            copy_records(source, target)
        finally:
            source.close()
            target.close()
        _copy_sqlite(records, whole := scratch / "whole.sqlite")
        records = whole
    yield _RECORDS, records
    hub = scratch / "jupyterhub.sqlite"
    _copy_sqlite(home.root / _HUB_DATABASE, hub)
    yield _HUB_DATABASE, hub


def _copy_sqlite(source: Path, target: Path) -> None:
    """As it is at one moment, while others write (https://sqlite.org/backup.html)."""
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)
        # One file: what the write-ahead log holds is in it.
        writing.execute("PRAGMA journal_mode=DELETE")


def _tree_files(home: Home, with_notebooks: bool) -> Iterator[tuple[str, Path]]:
    for tree in (*_TREES, *(_PEOPLES if with_notebooks else ())):
        for directory, _, names in os.walk(home.root / tree):  # follows no links
            for name in sorted(names):
                path = Path(directory) / name
                yield path.relative_to(home.root).as_posix(), path
    for name in _FILES:
        yield name, home.root / name


def _add(archive: zipfile.ZipFile, name: str, path: Path, members: dict[str, Member]) -> None:
    """A regular file as it is now; one that is gone meanwhile is left out, and so are links."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as source:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        digest, size = hashlib.sha256(), 0
        with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
            # A log that grows meanwhile is read up to where it was.
            while size < status.st_size:
                block = source.read(min(_BLOCK, status.st_size - size))
                if not block:
                    break
                digest.update(block)
                size += len(block)
                target.write(block)
    mode = stat.S_IMODE(status.st_mode) & 0o777
    members[name] = Member(size=size, sha256=digest.hexdigest(), mode=mode)


def _finish(aside: Path, content: IO[bytes], members: dict[str, Member]) -> None:
    manifest = Manifest(version=__version__, made_at=datetime.now(UTC), members=members)
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        shutil.copyfileobj(content, file, _BLOCK)
        with _archive(file, "a") as archive:  # type: ignore[arg-type]  # appending is a mode too
            archive.writestr(_MANIFEST, manifest.model_dump_json())
        file.flush()
        os.fsync(file.fileno())


def _unpack(file: Path, target: Path) -> Manifest:
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = _manifest(archive)
            _require_room(manifest, target)
            for name, member in manifest.members.items():
                _extract(archive, name, member, target)
        _sync(target)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {file}.", remedy="Check its path.") from error
    except (zipfile.BadZipFile, ValidationError, KeyError, EOFError, json.JSONDecodeError) as error:
        raise InvalidInput(
            f"{file} is not a backup of this platform, or not whole.",
            remedy="Take another one; nothing was changed.",
        ) from error
    except OSError as error:
        raise Unavailable(
            f"The backup cannot be unpacked: {error.strerror or error}.",
            remedy="Nothing was changed.",
        ) from error
    return manifest


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    if archive.getinfo(_MANIFEST).file_size > _LARGEST_MANIFEST:
        raise zipfile.BadZipFile("its manifest is too large")
    manifest = Manifest.model_validate_json(archive.read(_MANIFEST))
    names = [info.filename for info in archive.infolist()]
    if sorted(names) != sorted([_MANIFEST, *manifest.members]):
        raise zipfile.BadZipFile("its members are not those of its manifest")
    for name in manifest.members:
        _require_safe(name)
    return manifest


def _require_safe(name: str) -> None:
    """Only what a backup holds, and nothing that would lie elsewhere."""
    path = PurePosixPath(name)
    known = name in (_RECORDS, _HUB_DATABASE, *_FILES) or any(
        name.startswith(f"{tree}/") for tree in (*_TREES, *_PEOPLES)
    )
    parts = name.split("/")
    if (
        not known
        or path.is_absolute()
        or any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or "\0" in name
    ):
        raise InvalidInput(
            f"The backup holds {name[:100]!r}, which no backup does.",
            remedy="Somebody made this file by hand: do not use it.",
        )


def _require_room(manifest: Manifest, target: Path) -> None:
    needed = sum(member.size for member in manifest.members.values())
    if needed > shutil.disk_usage(target).free:
        raise Unavailable(
            f"The backup needs {needed / 1e9:.1f} GB, and there is less room.",
            remedy="Make room; nothing was changed.",
        )


def _extract(archive: zipfile.ZipFile, name: str, member: Member, target: Path) -> None:
    path = target / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, archive.open(name) as content:
        while block := content.read(_BLOCK):
            size += len(block)
            if size > member.size:
                break  # a bomb is not unpacked further
            digest.update(block)
            file.write(block)
        os.fchmod(descriptor, member.mode & 0o777)
        file.flush()
        os.fsync(descriptor)
    if size != member.size or digest.hexdigest() != member.sha256:
        raise zipfile.BadZipFile(f"{name} is not what the manifest says")


def _sync(directory: Path) -> None:
    for path, _, _ in os.walk(directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap(home: Home, beside: Path) -> Path | None:
    """One rename puts the restored home in place; where the former one went."""
    former = None
    if home.root.exists():
        former = home.root.with_name(f"{home.root.name}.before-{datetime.now(UTC):%Y%m%d-%H%M%S}")
        former = (
            former
            if not former.exists()
            else former.with_name(f"{former.name}-{secrets.token_hex(2)}")
        )
        home.root.rename(former)
    try:
        beside.rename(home.root)
    except OSError:
        if former is not None:
            former.rename(home.root)
        raise
    home.prepare()
    if former is not None and not any(
        path.name != home.lock_file.name for path in former.iterdir()
    ):
        shutil.rmtree(former)  # there was nothing in it
        return None
    return former


def _restore_records(home: Home, url: str) -> None:
    """Into the database that the settings name, which must be empty."""
    source, target = Database(home.records_url), Database(url)
    try:
        source.migrate()
        target.migrate()
        copy_records(source, target)
    except AiaasError as error:
        raise type(error)(
            f"{error.message} The files are in place; their records are in {home.root / _RECORDS}.",
            remedy=error.remedy,
        ) from error
    finally:
        source.close()
        target.close()
