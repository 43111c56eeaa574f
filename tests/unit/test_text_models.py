"""Models of texts as one file, and the step that serves them, without a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
import text_models
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from aiaas_hub.adapters import triton_local
from aiaas_hub.domain import parity
from aiaas_hub.domain.endpoints import serving_name
from aiaas_hub.schemas import strings
from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics.runtime.exported import ExportedModel
from aiaas_magics.runtime.sources import export

BACKEND = Path(triton_local.__file__).parent / "onnxruntime_backend"


@pytest.fixture(scope="module")
def likes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return text_models.likes(tmp_path_factory.mktemp("likes") / "bert")


@pytest.fixture(scope="module")
def exported(likes: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    model, tokenizer = likes
    directory = tmp_path_factory.mktemp("exported")
    return export(model, text_models.LIKES, tokenizer=tokenizer, directory=directory)


@pytest.fixture
def step_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """As the backend imports it."""
    monkeypatch.syspath_prepend(str(BACKEND))
    import text_step

    yield text_step
    for name in ("text_step", "label_step", "steps"):
        del sys.modules[name]


def served(module: Any, onnx_path: Path) -> tuple[Any, Any]:
    session = onnxruntime.InferenceSession(onnx_path)
    return module.TextStep(session.get_modelmeta().custom_metadata_map, session), session


def ask(module: Any, onnx_path: Path, texts: list[str]) -> dict[str, Any]:
    step, session = served(module, onnx_path)
    tokens = step.before(np.array(texts, np.object_).reshape(-1, 1))
    names = [output.name for output in session.get_outputs()]
    return dict(step.label.after(dict(zip(names, session.run(names, tokens), strict=True))))


def test_a_text_goes_in_and_a_label_comes_out(
    likes: tuple[Any, Any], exported: ExportedModel, step_module: Any
) -> None:
    assert exported.signature == Signature(
        inputs=[TensorSpec(name="text", dtype="string", shape=[1], kind="text")],
        outputs=[
            TensorSpec(name="logits", dtype="float32", shape=[2]),
            TensorSpec(name="label", dtype="string", shape=[1], kind="label"),
        ],
        labels=["bad", "good"],
    )
    model, tokenizer = likes
    texts = ["good", "it was never good and we loved it again", ""]
    with torch.no_grad():
        wanted = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy()
    found = ask(step_module, exported.onnx_path, texts)
    np.testing.assert_allclose(found["logits"], wanted, atol=1e-5)
    names = [[["bad", "good"][place].encode()] for place in wanted.argmax(1)]
    assert found["label"].tolist() == names
    # One text alone is padded otherwise, and means the same.
    alone = ask(step_module, exported.onnx_path, texts[:1])
    np.testing.assert_allclose(alone["logits"], wanted[:1], atol=1e-5)
    parity.check_labels(exported.signature, found)
    with pytest.raises(InvalidInput, match="does not name the largest"):
        parity.check_labels(exported.signature, {**found, "label": found["label"][:2]})


def test_held_out_texts_are_what_publishing_compares(exported: ExportedModel) -> None:
    inputs, outputs = parity.split_evaluation(
        load_file(exported.evaluation_path), exported.signature
    )
    assert [one.decode() for one in inputs["text"][:, 0]] == text_models.LIKES
    assert list(outputs) == ["logits"]
    assert outputs["logits"].shape == (len(text_models.LIKES), 2)


def test_a_long_text_is_cut_where_it_was_said(
    likes: tuple[Any, Any], tmp_path: Path, step_module: Any
) -> None:
    model, tokenizer = likes
    short = export(model, text_models.LIKES, tokenizer=tokenizer, max_length=4, directory=tmp_path)
    step, _ = served(step_module, short.onnx_path)
    tokens = step.before(np.array([["good " * 100]], np.object_))
    assert tokens["input_ids"].shape == (1, 4)
    # What the notebook goes on with is not cut.
    assert len(tokenizer("good " * 20)["input_ids"]) > 20


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokenizer": "{}"}, "does not truncate"),
        ({"tokenizer": '{"truncation": {"max_length": 9}, "padding": {}}'}, "does not truncate"),
        (
            {"tokenizer": '{"truncation": {"max_length": 9}, "padding": {"a": 1}}'},
            "does not load",
        ),
        ({"tensors": {"input_ids": "ids"}}, "the text becomes"),
        ({"label": {"output": "label", "names": ["one"]}}, "1 labels"),
    ],
)
def test_a_step_that_cannot_be_is_refused_before_it_serves(
    exported: ExportedModel, tmp_path: Path, step_module: Any, change: dict[str, Any], says: str
) -> None:
    proto = onnx.load(exported.onnx_path)
    known = {entry.key: entry for entry in proto.metadata_props}
    if "tokenizer" in change:
        known["aiaas.tokenizer"].value = change["tokenizer"]
    else:
        step = {**json.loads(known["aiaas.step"].value), **change}
        known["aiaas.step"].value = json.dumps(step)
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=says):
        served(step_module, tmp_path / "m.onnx")


def test_an_encoder_gives_the_mean_of_its_tokens(
    likes: tuple[Any, Any], tmp_path: Path, step_module: Any
) -> None:
    model, tokenizer = likes
    exported = export(model.bert, text_models.LIKES, tokenizer=tokenizer, directory=tmp_path)
    assert [(spec.name, spec.shape) for spec in exported.signature.outputs] == [
        ("sentence_embedding", [32])
    ]
    texts = ["good", "we loved all of it"]
    found = ask(step_module, exported.onnx_path, texts)["sentence_embedding"]
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            hidden = model.bert(**tokenizer(text, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(vector, hidden[0].mean(0), atol=1e-5)


def test_what_cannot_take_texts_says_what_can(likes: tuple[Any, Any], tmp_path: Path) -> None:
    from transformers import BertForTokenClassification

    model, tokenizer = likes
    with pytest.raises(InvalidInput, match="no tokenizer"):
        export(model, text_models.LIKES, tokenizer=object(), directory=tmp_path)
    with pytest.raises(InvalidInput, match="not made of texts"):
        export(model, np.ones((2, 3)), tokenizer=tokenizer, directory=tmp_path)
    with pytest.raises(InvalidInput, match="input_ids"):
        export(torch.nn.Linear(2, 2), ["a"], tokenizer=tokenizer, directory=tmp_path)
    with pytest.raises(InvalidInput, match="takes no text"):
        export(torch.nn.Linear(2, 2), np.ones((2, 2)), max_length=3, directory=tmp_path)
    by_token = BertForTokenClassification(model.config)
    with pytest.raises(InvalidInput, match="for each token"):
        export(by_token, text_models.LIKES, labels=None, tokenizer=tokenizer, directory=tmp_path)


def test_a_signature_says_what_an_endpoint_of_texts_is() -> None:
    text = {"name": "text", "dtype": "string", "shape": [1], "kind": "text"}
    label = {"name": "label", "dtype": "string", "shape": [1], "kind": "label"}
    scores = {"name": "scores", "dtype": "float32", "shape": [2]}
    labels = ["a", "b"]
    whole = Signature.model_validate(
        {"inputs": [text], "outputs": [scores, label], "labels": labels}
    )
    assert whole.takes_text
    wrong: list[dict[str, Any]] = [
        {"inputs": [text | {"dtype": "int64"}], "outputs": [scores]},
        {"inputs": [text | {"shape": [2]}], "outputs": [scores]},
        {"inputs": [text, scores], "outputs": [scores]},
        {"inputs": [label], "outputs": [scores]},
        {"inputs": [text], "outputs": [text]},
        {"inputs": [text], "outputs": [scores, label]},
        {"inputs": [text], "outputs": [label, scores], "labels": labels},
        {"inputs": [scores], "outputs": [scores, label], "labels": labels},
    ]
    for each in wrong:
        with pytest.raises(ValidationError):
            Signature.model_validate(each)


def test_models_without_texts_are_served_under_the_names_that_they_had() -> None:
    numbers = Signature(
        inputs=[TensorSpec(name="x", dtype="float32", shape=[None, 3])],
        outputs=[TensorSpec(name="y", dtype="float32", shape=[])],
    )
    assert serving_name("ann", "digits", numbers) == "digits-49915e0dde5a61dca1a3e3d369ab"
    # How long it may be idle is nothing that its configuration says.
    idle = ServingOptions(idle_seconds=60, warm_up=True)
    assert serving_name("ann", "digits", numbers, idle) == serving_name("ann", "digits", numbers)


def test_an_onnx_model_may_have_strings_itself(tmp_path: Path) -> None:
    given = onnx_models.identity(tmp_path / "given.onnx", onnx.TensorProto.STRING, [2])
    rows = np.array([["a", "böse"], ["", "c"], ["d", "e"]])
    exported = export(onnx.load(given), rows, directory=tmp_path)
    assert exported.signature.inputs == [TensorSpec(name="x", dtype="string", shape=[2])]
    assert not exported.signature.takes_text
    inputs, outputs = parity.split_evaluation(
        load_file(exported.evaluation_path), exported.signature
    )
    assert parity.difference(outputs["y"], inputs["x"]) == 0
    assert parity.difference(outputs["y"], inputs["x"][::-1]) == float("inf")


def test_strings_are_packed_among_numbers() -> None:
    given = np.array([["", "böse"], ["a\0b", "x" * 300]], np.object_)
    packed = strings.pack(given)
    assert packed.dtype == np.uint8
    assert strings.unpack(packed).tolist() == [[one.encode() for one in row] for row in given]
    # The first rows of a file are sliced before they are unpacked.
    assert strings.unpack(packed[:1]).tolist() == [[b"", "böse".encode()]]
    packed[0, 0, :4] = 255
    with pytest.raises(InvalidInput, match="longer than what is there"):
        strings.unpack(packed)
    with pytest.raises(InvalidInput, match="not packed"):
        strings.unpack(np.zeros((2, 3), np.float32))
