"""What the backend tells callers of an error, without Triton around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiaas_hub.adapters import triton_local

BACKEND = Path(triton_local.__file__).parent / "onnxruntime_backend"
FILE = "/srv/a home/with 'ä  blanks/models/m-1/3/model.onnx"


@pytest.fixture
def reason(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As the backend imports it."""
    monkeypatch.syspath_prepend(str(BACKEND))
    import reasons

    return reasons.reason


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("one\n  line", "one line"),
        ("Message: /src/core/reshape.h:84 was false", "Message: reshape.h:84 was false"),
        ("File '/home/ann/x.py', line 3", "File 'x.py', line 3"),
        ("(/home/ann/x.py:3)", "(x.py:3)"),
        ("of file:///home/ann/x", "of file:x"),
        ("lib/python3.12/site-packages/x/y.py failed", "y.py failed"),
        (r"in C:\Users\ann\x.py", "in x.py"),
        ("~/x and ~ann/y", "x and y"),
        ("2/3 of input/output, 1 / 2", "2/3 of input/output, 1 / 2"),
        (f"Load model from {FILE} failed", "Load model from model.onnx failed"),
        (f"[{FILE.replace('model.onnx', 'weights.bin')}]", "[weights.bin]"),
        ("", "ValueError"),
    ],
)
def test_a_reason_names_no_path(reason: Any, error: str, told: str) -> None:
    assert reason(ValueError(error), FILE) == told


def test_a_reason_is_short(reason: Any) -> None:
    assert len(reason(ValueError("x" * 10_000))) == 600
