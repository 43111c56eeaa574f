"""Triton's model repository: the configuration, compared whole, and the files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from aiaas_hub.adapters.triton_local.model_configuration import configuration
from aiaas_hub.adapters.triton_local.repository import Repository
from aiaas_hub.domain.ports import StagedVersion
from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound
from aiaas_hub.schemas.models import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=[
        TensorSpec(name="ids", dtype="int64", shape=[None]),
        TensorSpec(name="flag", dtype="bool", shape=[]),
    ],
    outputs=[TensorSpec(name="y", dtype="float16", shape=[2, 3])],
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "triton")
    repository.prepare()
    return repository


def _install(repository: Repository, tmp_path: Path, version: int, content: bytes = b"m") -> Path:
    onnx = tmp_path / "source.onnx"
    onnx.write_bytes(content)
    staged = repository.stage("digits-1", version, onnx)
    if not repository.is_installed(staged):
        repository.seal(staged)
    repository.install(staged)
    return repository.models_root / "digits-1" / str(version)


def _tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_the_configuration() -> None:
    text = configuration("digits-1", SIGNATURE, [5, 4, 5], instances=2)
    parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert json_format.MessageToDict(parsed, preserving_proto_field_name=True) == {
        "name": "digits-1",
        "backend": "onnxruntime",
        "max_batch_size": 256,
        "version_policy": {"specific": {"versions": ["4", "5"]}},
        "input": [
            {"name": "ids", "data_type": "TYPE_INT64", "dims": ["-1"]},
            # Triton allows no empty dims.
            {"name": "flag", "data_type": "TYPE_BOOL", "dims": ["1"], "reshape": {}},
        ],
        "output": [{"name": "y", "data_type": "TYPE_FP16", "dims": ["2", "3"]}],
        "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
        "dynamic_batching": {},
    }


def test_the_configuration_as_it_was_asked_for() -> None:
    options = ServingOptions(instances=3, max_batch=16, warm_up=True, timeout_seconds=0.25)
    text = configuration("digits-1", SIGNATURE, [1], instances=2, options=options)
    parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
    found = json_format.MessageToDict(parsed, preserving_proto_field_name=True)
    assert found["max_batch_size"] == 16
    assert found["instance_group"] == [{"count": 3, "kind": "KIND_CPU"}]
    queue = {"default_timeout_microseconds": "375000"}
    assert found["dynamic_batching"] == {"default_queue_policy": queue}
    # The service warms it up itself: Triton would want files in the model's directory.
    assert "model_warmup" not in found


@pytest.mark.parametrize(
    ("delay", "timeout", "batching"),
    [
        (2.5, None, {"max_queue_delay_microseconds": "2500"}),
        (0, None, {}),
        ("off", None, None),
        ("off", 1.0, None),
        (
            10,
            1.0,
            {
                "max_queue_delay_microseconds": "10000",
                "default_queue_policy": {"default_timeout_microseconds": "1200000"},
            },
        ),
    ],
)
def test_how_long_requests_wait_for_others(
    delay: Any, timeout: float | None, batching: dict[str, Any] | None
) -> None:
    options = ServingOptions(batch_delay=delay, timeout_seconds=timeout)
    text = configuration("digits-1", SIGNATURE, [1], options=options)
    parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
    found = json_format.MessageToDict(parsed, preserving_proto_field_name=True)
    assert found.get("dynamic_batching") == batching


def test_names_of_tensors_cannot_add_settings() -> None:
    name = '"\n}\nbackend: "python'
    signature = SIGNATURE.model_copy(deep=True)
    signature.inputs[0].name = name
    text = configuration("digits-1", signature, [1])
    parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (parsed.backend, parsed.input[0].name) == ("onnxruntime", name)


def test_a_version_arrives_whole_and_nothing_else_is_in_the_repository(
    repository: Repository, tmp_path: Path
) -> None:
    onnx = tmp_path / "source.onnx"
    onnx.write_bytes(b"model")
    staged = repository.stage("digits-1", 1, onnx)
    repository.seal(replace(staged, memory=7))
    assert _tree(repository.models_root) == []
    repository.install(staged)
    repository.write_configuration("digits-1", "one")
    repository.write_configuration("digits-1", "two")
    assert _tree(tmp_path / "triton") == [
        "models/digits-1/1/manifest.json",
        "models/digits-1/1/model.onnx",
        "models/digits-1/config.pbtxt",
    ]
    manifest = json.loads((repository.models_root / "digits-1/1/manifest.json").read_text())
    assert manifest == {
        "sha256": "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4",
        "size": 5,
        "memory": 7,
    }
    assert repository.read_configuration("digits-1") == "two"
    assert repository.models() == {"digits-1"}
    assert repository.versions("digits-1") == {1}
    assert repository.versions("nobody") == set()


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "no model"])
def test_what_a_crash_left_is_not_installed(
    repository: Repository, tmp_path: Path, damage: str
) -> None:
    onnx = tmp_path / "source.onnx"
    onnx.write_bytes(b"model")
    staged = repository.stage("digits-1", 1, onnx)
    if damage != "no manifest":
        repository.seal(staged)
    if damage == "truncated":
        (staged.path / "model.onnx").write_bytes(b"mod")
    if damage == "no model":
        (staged.path / "model.onnx").unlink()
    with pytest.raises(Conflict):
        repository.install(staged)
    assert repository.models() == set()
    # And the next attempt is not hindered by it.
    _install(repository, tmp_path, 1)


def test_what_found_no_room_leaves_nothing(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = tmp_path / "source.onnx"
    onnx.write_bytes(b"model")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def nothing_is_left() -> None:
        assert list((tmp_path / "triton" / "staging").iterdir()) == []

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            repository.stage("digits-1", 1, onnx)
    nothing_is_left()
    free = SimpleNamespace(free=4)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: free)
        # One that cannot fit does not take the room that others need.
        patch.setattr(shutil, "copyfile", lambda *_: pytest.fail("was begun"))
        with pytest.raises(OSError, match="No space"):
            repository.stage("digits-1", 1, onnx)
    nothing_is_left()
    staged = repository.stage("digits-1", 1, onnx)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"), repository.discarded_on_failure(staged):
            repository.seal(staged)
        nothing_is_left()
        (repository.models_root / "digits-1").mkdir()
        with pytest.raises(OSError, match="No space"):
            repository.write_configuration("digits-1", "text")
    nothing_is_left()
    assert repository.read_configuration("digits-1") is None


def test_what_a_former_process_left_is_swept_once(repository: Repository, tmp_path: Path) -> None:
    onnx = tmp_path / "source.onnx"
    onnx.write_bytes(b"model")
    staging = repository.stage("digits-1", 1, onnx).path.parent
    (staging / ".config.x").touch()
    (staging / ".removed.x").mkdir()
    another = Repository(tmp_path / "triton")
    another.prepare()
    assert list(staging.iterdir()) == []
    staged = another.stage("digits-1", 1, onnx)
    another.prepare()
    assert staged.path.is_dir()


def test_never_staged(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="not staged"):
        repository.install(StagedVersion("digits-1", 1, tmp_path / "nowhere"))


def test_each_configuration_is_newer_than_the_last(repository: Repository, tmp_path: Path) -> None:
    _install(repository, tmp_path, 1)
    path = repository.models_root / "digits-1" / "config.pbtxt"
    repository.write_configuration("digits-1", "one")
    # A clock that was ahead when the last one was written.
    future = time.time_ns() + 3_600_000_000_000
    os.utime(path, ns=(future, future))
    repository.write_configuration("digits-1", "two")
    assert path.stat().st_mtime_ns > future
    model = repository.models_root / "digits-1" / "1" / "model.onnx"
    before = model.stat().st_mtime_ns
    repository.touch("digits-1", [1])
    assert model.stat().st_mtime_ns > before


def test_a_version_number_is_never_used_for_another_model(
    repository: Repository, tmp_path: Path
) -> None:
    installed = _install(repository, tmp_path, 1, b"one")
    _install(repository, tmp_path, 1, b"one")
    with pytest.raises(Conflict):
        _install(repository, tmp_path, 1, b"two")
    assert (installed / "model.onnx").read_bytes() == b"one"


def test_remove(repository: Repository, tmp_path: Path) -> None:
    _install(repository, tmp_path, 1)
    _install(repository, tmp_path, 2)
    repository.remove("digits-1", 1)
    repository.remove("digits-1", 1)
    assert repository.versions("digits-1") == {2}
    repository.require("digits-1", [2])
    with pytest.raises(NotFound):
        repository.require("digits-1", [1, 2])
    repository.remove("digits-1")
    repository.remove("digits-1")
    assert _tree(tmp_path / "triton") == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "Digits", "a b", "a\n", "-x"])
def test_names_stay_inside(repository: Repository, tmp_path: Path, name: str) -> None:
    onnx = tmp_path / "source.onnx"
    onnx.write_bytes(b"model")
    with pytest.raises(InvalidInput):
        repository.stage(name, 1, onnx)
    with pytest.raises(InvalidInput):
        repository.remove(name)


@pytest.mark.parametrize("version", [0, -1, 2**31, 2**63])
def test_versions_are_small_numbers(repository: Repository, tmp_path: Path, version: int) -> None:
    onnx = tmp_path / "source.onnx"
    onnx.write_bytes(b"model")
    with pytest.raises(InvalidInput):
        repository.stage("digits-1", version, onnx)


def test_only_versions_and_the_configuration_stay(repository: Repository, tmp_path: Path) -> None:
    """Triton reads `9.tmp` as version 9, and hangs."""
    directory = _install(repository, tmp_path, 1).parent
    repository.write_configuration("digits-1", "")
    for name in ("9.tmp", "01", "+2", "\N{ARABIC-INDIC DIGIT THREE}"):
        (directory / name).mkdir()
        (directory / name / "model.onnx").write_bytes(b"")
    for name in ("7", ".DS_Store", "config.pbtxt.bak"):
        (directory / name).write_text("a file")
    assert repository.versions("digits-1") == {1}
    repository.sweep("digits-1")
    assert {path.name for path in directory.iterdir()} == {"1", "config.pbtxt"}
    repository.sweep("nothing-1")
