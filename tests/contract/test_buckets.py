"""Artifacts and served models in a real S3 server."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from object_store import ObjectStore, object_store

from aiaas_hub.adapters.blobs import FsspecBlobs
from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue, ModelRecord, VersionFile
from aiaas_hub.schemas.errors import TooLarge, Unavailable

CONTENT = b"some bytes" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("buckets") / "s3") as found:
        yield found


def test_a_blob_is_kept_read_and_removed(store: ObjectStore, tmp_path: Path) -> None:
    blobs = FsspecBlobs(f"{store.url}/artifacts", tmp_path / "cache")
    with pytest.raises(TooLarge):
        blobs.put(io.BytesIO(CONTENT), limit=10)
    assert not blobs.keep(DIGEST)
    for _ in range(2):
        assert blobs.put(io.BytesIO(CONTENT), limit=1 << 20) == (DIGEST, len(CONTENT))
    assert blobs.keep(DIGEST)
    # As another process of the service has it, whose cache is empty.
    other = FsspecBlobs(f"{store.url}/artifacts", tmp_path / "another")
    assert other.size(DIGEST) == len(CONTENT)
    assert b"".join(other.iterate(DIGEST, 64)) == CONTENT
    with other.open(DIGEST) as stream:
        assert stream.read() == CONTENT
    assert other.local_path(DIGEST).read_bytes() == CONTENT
    now = datetime.now(UTC)
    assert not blobs.remove(DIGEST, now - timedelta(hours=1))
    assert blobs.remove(DIGEST, now + timedelta(hours=1))
    assert not other.keep(DIGEST)


def test_records_of_what_is_served(store: ObjectStore, tmp_path: Path) -> None:
    catalogue = Catalogue(f"{store.url}/serving")
    assert catalogue.groups() == catalogue.models("shared") == set()
    assert catalogue.read("shared", "m-1") is None
    record = ModelRecord(
        config="name: 'm'", served=[1], versions={1: VersionFile(sha256=DIGEST, memory=5)}
    )
    catalogue.write("shared", "m-1", record)
    catalogue.write("owner-12345678", "m-2", ModelRecord())
    other = Catalogue(f"{store.url}/serving")
    assert other.groups() == {"shared", "owner-12345678"}
    assert other.models("shared") == {"m-1"}
    assert other.read("shared", "m-1") == record
    catalogue.forget("shared", "m-1")
    catalogue.forget("shared", "m-1")
    assert other.read("shared", "m-1") is None


def test_a_file_that_is_not_what_its_name_says_is_not_handed_out(
    store: ObjectStore, tmp_path: Path
) -> None:
    catalogue = Catalogue(f"{store.url}/serving")
    (tmp_path / "model.onnx").write_bytes(CONTENT)
    catalogue.keep(tmp_path / "model.onnx", DIGEST)
    catalogue.fetch(DIGEST, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == CONTENT
    (store.directory / "serving" / "files" / DIGEST).write_bytes(CONTENT[::-1])
    with pytest.raises(Unavailable, match="damaged"):
        catalogue.fetch(DIGEST, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    catalogue.drop(DIGEST)
    with pytest.raises(Unavailable, match="not in the object store"):
        catalogue.fetch(DIGEST, tmp_path / "again")


def test_a_store_that_is_away_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unavailable, match="object store cannot be"):
        FsspecBlobs("s3://gone/artifacts", tmp_path / "cache").put(io.BytesIO(b"x"), limit=9)
    with pytest.raises(Unavailable, match="object store cannot be"):
        Catalogue("s3://gone/serving").models("shared")
