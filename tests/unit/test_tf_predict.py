"""TensorFlow Serving's JSON, as tensors and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from aiaas_hub.adapters.translator import tf_serving as translation
from aiaas_hub.adapters.translator.tf_serving import Question, TensorInfo
from aiaas_hub.schemas.errors import InvalidInput

X = TensorInfo("x", "FP32", [-1, 3])
N = TensorInfo("n", "INT32", [-1, 1])
TEXT = TensorInfo("text", "BYTES", [-1, 1])


def read(request: Any, *wanted: TensorInfo) -> Question:
    return translation.read(json.dumps(request).encode(), wanted)


def test_rows_and_columns_are_the_same_tensors() -> None:
    rows = [[1, 2, 3], [4, 5, 6.5]]
    for request, by_row in (
        ({"instances": rows}, True),
        ({"instances": [{"x": row} for row in rows], "signature_name": "serving_default"}, True),
        ({"inputs": rows}, False),
        ({"inputs": {"x": rows}, "signature_name": ""}, False),
    ):
        question = read(request, X)
        assert question.by_row is by_row
        assert question.inputs["x"].dtype == np.float32
        np.testing.assert_array_equal(question.inputs["x"], np.array(rows, np.float32))
    both = read({"instances": [{"x": rows[0], "n": 7}, {"x": rows[1], "n": 8}]}, X, N)
    # One number for each row is a tensor of one dimension more.
    assert both.inputs["n"].tolist() == [[7], [8]]
    assert both.inputs["n"].dtype == np.int32


def test_texts_and_bytes() -> None:
    question = read({"instances": ["hello", {"b64": "AP8="}]}, TEXT)
    assert question.inputs["text"].tolist() == [[b"hello"], [b"\x00\xff"]]
    outputs = {
        "label": np.array([[b"yes"], [b"\xff"]], dtype=object),
        "raw_bytes": np.array([[b"a"], [b"b"]], dtype=object),
    }
    assert json.loads(translation.answer(question, outputs))["predictions"] == [
        {"label": ["yes"], "raw_bytes": [{"b64": "YQ=="}]},
        {"label": [{"b64": "/w=="}], "raw_bytes": [{"b64": "Yg=="}]},
    ]


def test_an_answer_has_the_form_of_its_question() -> None:
    one = {"y": np.array([[1.5], [2.0]], np.float32)}
    two = {**one, "k": np.array([3, 4])}
    rows, columns = Question({}, by_row=True), Question({}, by_row=False)
    for question, outputs, wanted in (
        (rows, one, {"predictions": [[1.5], [2.0]]}),
        (rows, two, {"predictions": [{"y": [1.5], "k": 3}, {"y": [2.0], "k": 4}]}),
        (columns, one, {"outputs": [[1.5], [2.0]]}),
        (columns, two, {"outputs": {"y": [[1.5], [2.0]], "k": [3, 4]}}),
    ):
        assert json.loads(translation.answer(question, outputs)) == wanted


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ([], "either 'instances' or 'inputs'"),
        ({}, "either 'instances' or 'inputs'"),
        ({"instances": [[1, 2, 3]], "inputs": []}, "either 'instances' or 'inputs'"),
        ({"instances": []}, "at least one row"),
        ({"instances": [[1, 2, 3]], "signature_name": "other"}, "only signature"),
        ({"instances": [[1, 2, 3], [1, 2]]}, "differ in shape"),
        ({"instances": [[1, 2]]}, "has shape [1, 2], the model takes [-1, 3]"),
        ({"instances": [1, 2, 3]}, "has shape [3]"),
        ({"instances": [["1", "2", "3"]]}, "not all of type FP32"),
        ({"instances": [[True, False, True]]}, "not all of type FP32"),
        ({"instances": [[1, None, 3]]}, "not all of type FP32"),
        ({"instances": [{"z": [1, 2, 3]}]}, "inputs are x; given are z"),
        ({"inputs": {"x": [[1, 2, 3]], "z": 1}}, "given are x, z"),
    ],
)
def test_what_does_not_fit_is_said(request_: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(request_, X)
    assert words in refused.value.message


def test_numbers_do_not_become_others_in_silence() -> None:
    for values in ([[1.5]], [[2**40]], [[-(2**40)]], [["7"]]):
        with pytest.raises(InvalidInput, match="not all of type INT32"):
            read({"instances": values}, N)
    with pytest.raises(InvalidInput, match="not base64"):
        read({"instances": [{"b64": "?"}]}, TEXT)
    with pytest.raises(InvalidInput, match="different numbers of rows"):
        read({"inputs": {"x": [[1, 2, 3]], "n": [1, 2]}}, X, N)
    with pytest.raises(InvalidInput, match="Name the inputs"):
        read({"instances": [[1, 2, 3]]}, X, N)
    for body in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(InvalidInput, match="not JSON"):
            translation.read(body, [X])
