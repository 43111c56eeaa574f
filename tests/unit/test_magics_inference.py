"""What is sent to an endpoint: cast to the signature, or refused in a sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from image_files import RED, bomb, plain
from tritonclient.utils import InferenceServerException

from aiaas_hub.schemas import errors
from aiaas_hub.schemas.endpoints import MAX_BATCH, EndpointToken
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics import inference
from aiaas_magics.inference import Caller, _as_error, _pieces, to_tensors


def signature(*inputs: tuple[str, str, list[int | None]]) -> Signature:
    specs = [TensorSpec.model_validate({"name": n, "dtype": d, "shape": s}) for n, d, s in inputs]
    return Signature(inputs=specs, outputs=specs[:1])


PIXELS = signature(("pixels", "float32", [8, 8]))
TEXT = Signature(
    inputs=[TensorSpec(name="text", dtype="string", shape=[1], kind="text")],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[2])],
)
TOKENS = signature(("ids", "int64", [None]), ("mask", "int64", [None]))


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((2, 8, 8)),
        np.zeros((2, 8, 8), "uint8"),
        np.zeros((2, 8, 8), bool),
        np.zeros((2, 8, 8)).tolist(),
        torch.zeros(2, 8, 8, requires_grad=True),
        {"pixels": np.zeros((2, 8, 8))},
        np.zeros((8, 8, 2)).T,
    ],
)
def test_what_fits_is_cast(x: Any) -> None:
    (array,) = to_tensors(PIXELS, x).values()
    assert (array.dtype, array.shape) == (np.float32, (2, 8, 8))
    assert array.flags.c_contiguous


def test_a_frame_is_a_batch_of_its_rows() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 0.5, 0.5]})
    (array,) = to_tensors(signature(("x", "float32", [2])), frame).values()
    assert array.tolist() == [[1, 0.5], [2, 0.5], [3, 0.5]]


def test_a_frame_has_a_column_for_each_input() -> None:
    wanted = signature(("age", "float32", [1]), ("sex", "float32", [1]))
    frame = pd.DataFrame({"sex": [0, 1], "country": ["be", "nl"], "age": [30, 40]})
    arrays = to_tensors(wanted, frame)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "age": [[30], [40]],
        "sex": [[0], [1]],
    }
    with pytest.raises(InvalidInput, match="no column 'age'"):
        to_tensors(wanted, frame.drop(columns="age"))


@pytest.mark.parametrize(
    "x",
    [
        ["I loved it", "böse"],
        np.array(["I loved it", "böse"]),
        pd.Series(["I loved it", "böse"]),
        pd.DataFrame({"said": ["I loved it", "böse"]}),
        {"text": [["I loved it"], ["böse"]]},
    ],
)
def test_texts_are_what_a_person_has(x: Any) -> None:
    (array,) = to_tensors(TEXT, x).values()
    assert (array.dtype, array.tolist()) == (np.object_, [["I loved it"], ["böse"]])
    assert to_tensors(TEXT, "one")["text"].tolist() == [["one"]]


def test_answers_of_texts_are_str() -> None:
    label = TensorSpec(name="label", dtype="string", shape=[1], kind="label")
    given = np.array([[b"gut"], ["böse".encode()]], np.object_)
    assert inference._read(label, given).tolist() == ["gut", "böse"]


@pytest.mark.parametrize(
    ("wanted", "x", "says"),
    [
        (TEXT, [1, 2], "takes text, and '1' is of the type int"),
        (TEXT, ["a", None], "of the type NoneType"),
        (TEXT, [["a", "b"], ["c"]], "takes text"),
        (TEXT, [], "one a row"),
        (PIXELS, np.zeros((8, 8)), r"give x\[None\]"),
        (PIXELS, np.zeros((2, 8, 7)), r"shape \[2, 8, 7\], the model takes \[batch, 8, 8\]"),
        (PIXELS, np.zeros((0, 8, 8)), "no rows"),
        (PIXELS, np.full((2, 8, 8), "a"), r"astype\('float32'\)"),
        (PIXELS, [[1, 2], [3]], "cannot be made an array"),
        (PIXELS, {"other": np.zeros((2, 8, 8))}, "inputs are pixels"),
        (TOKENS, np.zeros((2, 4), int), "2 inputs: ids, mask"),
        (TOKENS, {"ids": np.zeros((2, 4), int), "mask": np.zeros((3, 4), int)}, "ids 2, mask 3"),
        (TOKENS, {"ids": np.ones((2, 4)) / 2, "mask": np.zeros((2, 4), int)}, "is float64"),
        (signature(("x", "uint8", [])), np.array([300]), "is int64"),
    ],
)
def test_what_does_not_fit_is_refused(wanted: Signature, x: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        to_tensors(wanted, x)
    assert refusal.value.remedy


def test_integers_that_fit_are_narrowed() -> None:
    (array,) = to_tensors(signature(("x", "uint8", [])), np.array([1, 255])).values()
    assert array.dtype == np.uint8


def test_many_rows_go_in_pieces_that_the_engine_takes() -> None:
    rows = 2 * MAX_BATCH + 3
    pieces = list(_pieces({"x": np.arange(rows), "y": np.arange(rows)}, MAX_BATCH))
    assert [len(piece["y"]) for piece in pieces] == [MAX_BATCH, MAX_BATCH, 3]
    assert np.concatenate([piece["x"] for piece in pieces]).tolist() == list(range(rows))


IMAGE = Signature(
    inputs=[TensorSpec(name="image", dtype="string", shape=[1], kind="image")],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[2])],
)


def test_images_are_what_a_person_has(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(plain(RED))
    for x in (
        path,
        str(path),
        plain(RED),
        [path],
        np.array([str(path)]),
        pd.Series([plain(RED)]),
        pd.DataFrame({"image": [plain(RED)]}),
        {"image": np.array([[plain(RED)]], object)},
    ):
        (array,) = to_tensors(IMAGE, x).values()
        assert (array.dtype, array.tolist()) == (np.object_, [[plain(RED)]])
    with pytest.raises(InvalidInput, match="A int is no image"):
        to_tensors(IMAGE, [1])
    with pytest.raises(errors.NotFound, match=r"no image at 'b\.png'"):
        to_tensors(IMAGE, "b.png")


def test_images_go_in_requests_of_what_one_may_have() -> None:
    def sizes(files: list[bytes], most: int) -> list[int]:
        inputs = to_tensors(IMAGE, files)
        pieces = [piece["image"][:, 0].tolist() for piece in _pieces(inputs, most, is_image=True)]
        assert [file for piece in pieces for file in piece] == files
        return [len(piece) for piece in pieces]

    assert sizes([plain(RED)] * 5, 2) == [2, 2, 1]
    # Of files by themselves too large, and of what has no pixels, the endpoint says so.
    large = [b"\0" * (12 << 20)] * 9
    assert sizes([b"rubbish", *large], 256) == [4, 4, 2]
    # 48 million pixels each, in a few bytes.
    assert sizes([bomb(6900)] * 9, 256) == [4, 4, 1]


def test_a_key_is_kept_until_it_nearly_ends() -> None:
    made: list[EndpointToken] = []

    def token(_owner: str, _name: str) -> EndpointToken:
        lifetime = timedelta(seconds=30 if not made else 600)
        made.append(
            EndpointToken(token=f"key-{len(made)}", expires_at=datetime.now(UTC) + lifetime)
        )
        return made[-1]

    client: Any = SimpleNamespace(endpoints=SimpleNamespace(token=token))
    caller = Caller(client, "alice", "digits")
    assert [caller._key() for _ in range(3)] == ["key-0", "key-1", "key-1"]


@pytest.mark.parametrize(("status", "calls"), [("503", 4), ("504", 1)])
def test_what_took_too_long_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, status: str, calls: int
) -> None:
    monkeypatch.setattr(inference, "PAUSES", (0, 0, 0))
    made = []

    def infer(*_: Any) -> Any:
        made.append(status)
        raise InferenceServerException("slow", status=status)

    monkeypatch.setattr(Caller, "_infer", infer)
    endpoint: Any = SimpleNamespace(
        name="digits", url="u", signature=PIXELS, traffic={1: 100}, largest_batch=2
    )
    with pytest.raises(errors.Unavailable):
        Caller(SimpleNamespace(), "alice", "digits").predict(endpoint, np.zeros((2, 8, 8)))
    assert len(made) == calls


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400", errors.InvalidInput),
        ("401", errors.Unauthenticated),
        ("403", errors.Forbidden),
        ("404", errors.NotFound),
        ("413", errors.TooLarge),
        ("500", errors.InternalError),
        ("503", errors.Unavailable),
        (None, errors.Unavailable),
    ],
)
def test_what_the_gateway_says_is_said_in_our_words(status: str | None, kind: type) -> None:
    endpoint: Any = SimpleNamespace(name="digits", url="http://gateway/alice/digits")
    error = _as_error(endpoint, InferenceServerException("no\nTraceback …", status=status))
    assert type(error) is kind
    assert error.remedy
    assert "Traceback" not in str(error)
