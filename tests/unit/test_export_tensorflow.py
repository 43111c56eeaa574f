"""Hand-over of TensorFlow's models. `make test-tensorflow` brings TensorFlow (1.2 GB)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not here: make test-tensorflow")
pytest.importorskip("tf2onnx", reason="tf2onnx is not here: make test-tensorflow")

PROGRAM = Path(__file__).parents[1] / "tensorflow_models.py"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each; in a process of its own, as Keras has one backend in a process."""
    directory = tmp_path_factory.mktemp("tensorflow")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(directory)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((directory / "answers.json").read_text()) | {"directory": directory}


def test_a_keras_model_on_tensorflow_is_served_as_it_answers(answers: dict[str, Any]) -> None:
    found = answers["keras"]
    assert found["inputs"] == [
        ["pixels", "float32", [8, 8, 1]],
        ["extra", "float32", [4]],
    ]
    assert found["outputs"] == [["output", "float32", [2]]]
    assert found["labels"] == ["no", "yes"]
    assert found["framework"].startswith("tensorflow 2.")
    directory: Path = answers["directory"]
    rows = dict(np.load(directory / "keras.npz"))
    session = onnxruntime.InferenceSession(directory / "keras" / "model.onnx")
    expected = rows.pop("answer")
    (answer,) = session.run(None, {name: rows[name].astype(np.float32) for name in rows})
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_names_of_outputs_free_lengths_and_classes_of_ones_own(answers: dict[str, Any]) -> None:
    assert answers["sentences"]["inputs"] == [["ids", "int32", [None]]]
    assert answers["sentences"]["outputs"] == [
        ["embedding", "float32", [16]],
        ["score", "float32", [1]],
    ]
    assert answers["own"]["inputs"] == [["input", "float32", [4]]]
    assert answers["own"]["outputs"] == [["output", "float32", [3]]]


def test_modules_functions_and_saved_models(answers: dict[str, Any]) -> None:
    assert answers["module"]["inputs"] == [["ids", "int32", [4]]]
    assert [name for name, _, _ in answers["module"]["outputs"]] == ["output", "output_1"]
    assert answers["function"]["inputs"] == [["x", "int64", [3]], ["y", "float32", [3]]]
    assert answers["saved"]["inputs"] == answers["module"]["inputs"]
    assert len(answers["saved"]["outputs"]) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("variable", "cannot be"),
        ("no_call", "cannot be called with tensors"),
        ("random", "answers differently"),
        ("misfit", "does not fit the model's inputs: pixels, extra"),
        ("wrong", "does not run on the example input: "),
        ("mixing", "for 2 rows of input"),
        ("unknown", "it has no Svd"),
    ],
)
def test_what_does_not_convert_is_said_with_a_remedy(
    name: str, says: str, answers: dict[str, Any]
) -> None:
    assert says in answers[name]["refused"]
    assert answers[name]["remedy"]
    assert "\n" not in answers[name]["refused"]
    assert not answers[name]["refused"].endswith(":")
