"""What a person types as rows for a model."""

from __future__ import annotations

import numpy as np
import pytest

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics.panels.rows import Answer, example_rows, parse_rows, takes, takes_text


def signature(*shapes: list[int | None], dtype: str = "float32") -> Signature:
    inputs = [
        {"name": name, "dtype": dtype, "shape": shape}
        for name, shape in zip("xyz", shapes, strict=False)
    ]
    output = {"name": "output", "dtype": "float32", "shape": [2]}
    return Signature.model_validate({"inputs": inputs, "outputs": [output]})


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1 2 3", [[1, 2, 3]]),
        ("1, 2.5;3\n\n-4\t5e1 6,\n", [[1, 2.5, 3], [-4, 50, 6]]),
        ("[1, 2, 3]", [[1, 2, 3]]),
        ("[[1, 2, 3], [4, 5, 6]]", [[1, 2, 3], [4, 5, 6]]),
        ('{"x": [[1, 2, 3]]}', [[1, 2, 3]]),
    ],
)
def test_rows_as_they_are_typed(text: str, rows: list[list[float]]) -> None:
    assert parse_rows(text, signature([3]))["x"].tolist() == rows


def test_other_shapes_and_types() -> None:
    picture = parse_rows(" ".join("1" * 4), signature([1, 2, 2]))["x"]
    assert picture.shape == (1, 1, 2, 2)
    assert parse_rows("7 8 9 10", signature([None], dtype="int64"))["x"].tolist() == [[7, 8, 9, 10]]
    whole = parse_rows("[3.0, 4.0]", signature([2], dtype="int32"))["x"]
    assert (whole.dtype, whole.tolist()) == (np.int32, [[3, 4]])
    assert parse_rows("1 0", signature([2], dtype="bool"))["x"].tolist() == [[True, False]]
    assert parse_rows("5", signature([]))["x"].tolist() == [5]
    two = parse_rows('{"x": [[1]], "y": [2]}', signature([1], [1]))
    assert {name: array.tolist() for name, array in two.items()} == {"x": [[1]], "y": [[2]]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows to send"),
        ("1 2", "has 3 numbers, and this one 2"),
        ("1 two 3", "'two' is not a number"),
        ("[1, 2", "not JSON at character"),
        ("[[1, 2], [3]]", "rows of one length"),
        ('["a", "b", "c"]', "not made of numbers"),
        ("[null, 1, 2]", "not made of numbers"),
        ("[NaN, 1, 2]", "not JSON"),
        ('{"y": [[1, 2, 3]]}', "inputs are x; given are y"),
        ("[" * 100_000, "not JSON"),
        ("1 2 3\n" * 101, "at most 100"),
    ],
)
def test_mistakes_say_what_would_do(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        parse_rows(text, signature([3]))
    assert refusal.value.remedy


def strings(*shape: int | None) -> Signature:
    """A signature whose input is a string, whatever a service of today knows of strings."""
    texts = signature([1])
    texts.inputs[0] = TensorSpec.model_construct(name="text", dtype="string", shape=list(shape))
    return texts


@pytest.mark.parametrize("shape", [[1], [], [None]])
def test_a_text_is_one_row(shape: list[int | None]) -> None:
    takes = strings(*shape)
    assert takes_text(takes)
    text = ' [not JSON]\n{"é": 1}, 2\n'
    array = parse_rows(text, takes)["text"]
    assert (array.dtype, array.shape) == (np.dtype(object), (1, *(1 for _ in shape)))
    assert array.reshape(-1).tolist() == [text]
    assert parse_rows(example_rows(takes), takes)["text"].size == 1
    with pytest.raises(InvalidInput, match="no text to send"):
        parse_rows(" \n", takes)


def test_images_are_not_typed() -> None:
    image = signature([1])
    image.inputs[0] = TensorSpec(name="image", dtype="string", shape=[1], kind="image")
    assert not takes_text(image)
    assert example_rows(image) == ""
    assert "PNG, JPEG or WebP" in takes(image)
    # A path would be read here, and sent.
    for text in ("/etc/passwd", '[["/etc/passwd"]]', '{"image": [["/etc/passwd"]]}', ""):
        with pytest.raises(InvalidInput, match="takes images"):
            parse_rows(text, image)


def test_several_texts_are_json() -> None:
    takes = strings(2)
    assert not takes_text(takes)
    array = parse_rows('[["a", "b"], ["c", "d"]]', takes)["text"]
    assert (array.dtype, array.tolist()) == (np.dtype(object), [["a", "b"], ["c", "d"]])
    assert parse_rows(example_rows(takes), takes)["text"].tolist() == [["", ""]]
    for mistake in ("a b", "[[1, 2]]"):
        with pytest.raises(InvalidInput):
            parse_rows(mistake, takes)


def test_an_answer_may_be_made_of_texts() -> None:
    said = np.array([[b"caf\xc3\xa9 <b>"], [b"\xff\x1b[31m"]], dtype=object)
    answer = Answer({"label": said}, ["cat", "dog"], 1)
    assert answer.titles == ["row", "label"]
    assert answer.lines[0] == ["1", "café <b>"]
    assert "\x1b" not in answer.lines[1][1]
    assert "&lt;b&gt;" in answer.html()


def test_a_label_that_is_answered_is_told_once_and_first() -> None:
    outputs = {"logits": np.array([[1.0, 2.0]]), "label": np.array([["dog"]], dtype=object)}
    answer = Answer(outputs, ["cat", "dog"], 1)
    assert answer.titles == ["row", "label", "logits"]
    assert answer.lines == [["1", "dog", "1, 2"]]


def test_several_inputs_need_their_names() -> None:
    both = signature([2], [1])
    for text in ("1 2 3", "[[1, 2]]"):
        with pytest.raises(InvalidInput, match=r'the inputs x, y.*Give JSON: \{"x"'):
            parse_rows(text, both)


@pytest.mark.parametrize(
    "shapes", [([3],), ([],), ([1, 2, 2],), ([40, 40],), ([None],), ([2], [1])]
)
def test_the_example_can_be_sent(shapes: tuple[list[int | None], ...]) -> None:
    taken = parse_rows(example_rows(signature(*shapes)), signature(*shapes))
    for array, shape in zip(taken.values(), shapes, strict=True):
        assert array.shape == (1, *(size or 1 for size in shape))


def test_an_answer_is_escaped_and_cut() -> None:
    outputs = {"<out>": np.tile(np.array([[0.25, 0.75]]), (30, 10))}
    shown = Answer(outputs, ["cat", "<b>dog</b>"], 3).html()
    assert "&lt;b&gt;dog&lt;/b&gt;" in shown
    assert "&lt;out&gt;" in shown
    assert "version 3; the first 20 of 30 rows" in shown
    assert "… (20)" in shown
