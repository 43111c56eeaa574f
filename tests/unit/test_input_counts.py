"""What the backend counts, and what it does where it cannot, without Triton around it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aiaas_hub import schemas
from aiaas_hub.adapters import triton_local
from aiaas_hub.adapters.triton_local.client import OWN
from aiaas_hub.adapters.triton_local.counted_inputs import VARIABLE
from aiaas_hub.domain import input_drift
from aiaas_hub.schemas.models import Signature, TensorSpec

BACKEND = Path(triton_local.__file__).parent / "onnxruntime_backend"
SIGNATURE = Signature(
    inputs=[TensorSpec(name="x", dtype="float32", shape=[2])],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[1])],
)
ROWS = np.arange(120, dtype=np.float32).reshape(60, 2)
ARGS = {"model_name": "wine-1", "model_version": "3"}


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What Triton's log says; its own module stands in for itself."""
    said: list[str] = []
    triton: Any = ModuleType("triton_python_backend_utils")
    triton.Logger = SimpleNamespace(log_error=said.append)
    monkeypatch.setitem(sys.modules, triton.__name__, triton)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "counts"))
    return said


@pytest.fixture
def module(errors: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """As the backend imports it."""
    monkeypatch.syspath_prepend(str(BACKEND))
    monkeypatch.syspath_prepend(str(Path(schemas.__file__).parent))
    import input_counts

    yield input_counts
    for name in ("input_counts", "input_bins"):
        del sys.modules[name]


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The directory of a version whose inputs are counted."""
    found = input_drift.reference({"x": ROWS}, SIGNATURE)
    directory = tmp_path / "3"
    directory.mkdir()
    (directory / "inputs.json").write_text(found.model_dump_json())
    return directory


def request(identity: str = "") -> Any:
    return SimpleNamespace(request_id=lambda: identity)


def written(tmp_path: Path) -> list[Any]:
    files = sorted((tmp_path / "counts" / "wine-1" / "3").iterdir())
    assert {file.suffix for file in files} <= {".json"}
    return [json.loads(file.read_text()) for file in files]


def test_what_was_counted_is_written_at_the_end(
    module: Any, version: Path, tmp_path: Path, errors: list[str]
) -> None:
    instances = [module.input_counts(str(version), ARGS) for _ in range(3)]
    instances[0].add({"x": ROWS[:10]}, [request(), request("of a caller")])
    instances[0].add({"x": ROWS[:5]}, [request(), request(OWN)])
    instances[1].add({"x": ROWS[:3]}, [request()])
    for one in instances:
        one.finalize()
    # One that nobody called has none.
    assert sorted(int(np.sum(counts[0])) for counts in written(tmp_path)) == [3, 10]
    assert errors == []


def test_a_burst_is_counted_whole_and_a_flood_is_not(
    module: Any, version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    counts = module.input_counts(str(version), ARGS)
    for _ in range(130):
        counts.add({"x": ROWS[:1]}, [request()])
    assert counts._counts[0].sum() == 100
    now += 0.25
    for _ in range(130):
        counts.add({"x": ROWS[:1]}, [request()])
    assert counts._counts[0].sum() == 125
    now += 3600
    for _ in range(130):
        counts.add({"x": ROWS[:1]}, [request()])
    assert counts._counts[0].sum() == 225
    monkeypatch.undo()
    counts.finalize()


def test_a_model_serves_whatever_is_wrong_with_counting(
    module: Any,
    version: Path,
    tmp_path: Path,
    errors: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = module.input_counts(str(version), ARGS)
    counts.add({"z": ROWS}, [request()])
    counts.add({"x": ROWS[:, :1]}, [request()])
    assert len(errors) == 2
    counts.add({"x": ROWS}, [request()])
    # The version was removed under it.
    (tmp_path / "counts" / "wine-1" / "3").rmdir()
    counts.finalize()
    assert len(errors) == 2
    (version / "inputs.json").write_text('{"rows": 9, "features": [], "reason": "Too few."}')
    assert module.input_counts(str(version), ARGS) is None
    assert len(errors) == 2
    for damaged in ("{", '{"rows": 9}', '{"features": [{"tensor": "x"}]}'):
        (version / "inputs.json").write_text(damaged)
        assert module.input_counts(str(version), ARGS) is None
    assert len(errors) == 5
    (version / "inputs.json").unlink()
    assert module.input_counts(str(version), ARGS) is None
    monkeypatch.delenv(VARIABLE)
    (version / "inputs.json").write_text("{")
    assert module.input_counts(str(version), ARGS) is None
    assert len(errors) == 5


def test_both_sides_have_one_name_for_what_they_share(module: Any) -> None:
    assert (module.DIRECTORY, module.OWN) == (VARIABLE, OWN)
