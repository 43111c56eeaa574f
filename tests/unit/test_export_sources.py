"""Hand-over of models that are no torch modules: Keras 3, scikit-learn, ONNX itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import load_file
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.exported import ExportedModel
from aiaas_magics.runtime.sources import export


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="Keras 3 is not installed (extra `train`)")


def served(exported: ExportedModel, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(exported.onnx_path)
    answers: list[np.ndarray] = session.run(None, inputs)
    return answers


def test_a_classifier_of_scikit_learn_serves_its_probabilities(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra `train`)")
    x, y = load_iris(return_X_y=True)
    flowers = np.array(["setosa", "versicolor", "virginica"])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, flowers[y])

    exported = export(model, x[:2], x, directory=tmp_path)

    (given,), (output,) = exported.signature.inputs, exported.signature.outputs
    assert (given.name, given.dtype, given.shape) == ("input", "float32", [4])
    assert (output.dtype, output.shape) == ("float32", [3])
    assert exported.signature.labels == flowers.tolist()
    assert exported.framework.startswith("scikit-learn 1.")
    (answer,) = served(exported, input=x[:7].astype(np.float32))
    np.testing.assert_allclose(answer, model.predict_proba(x[:7]), atol=1e-5)
    assert load_file(exported.evaluation_path)["input.input"].shape == (150, 4)


def test_xgboosts_estimators_are_scikit_learns(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed (extra `test`)")
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    many = xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(x, y)
    exported = export(many, x[:2], x, directory=tmp_path)
    assert exported.signature.outputs[0].shape == [3]
    assert exported.signature.labels == ["0", "1", "2"]
    (answer,) = served(exported, input=x[:7])
    np.testing.assert_allclose(answer, many.predict_proba(x[:7]), atol=1e-5)
    two = xgboost.XGBClassifier(n_estimators=5).fit(x, y == 1)
    assert export(two, x[:2], x, directory=tmp_path).signature.outputs[0].shape == [2]
    number = xgboost.XGBRegressor(n_estimators=5).fit(x[:, :3], x[:, 3])
    (spec,) = export(number, x[:2, :3], x[:, :3], directory=tmp_path).signature.outputs
    assert (spec.dtype, spec.shape) == ("float32", [1])
    with pytest.raises(InvalidInput, match="cannot be exported") as refusal:
        export(many.get_booster(), x[:2], directory=tmp_path)
    assert "Give an XGBClassifier or XGBRegressor" in refusal.value.remedy


def test_a_forest_and_a_regressor_over_named_columns(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra `train`)")
    digits = load_digits()
    forest = RandomForestClassifier(10, random_state=0).fit(digits.data, digits.target)
    (tmp_path / "forest").mkdir()
    exported = export(forest, digits.data[:50], directory=tmp_path / "forest")
    assert exported.signature.labels == [str(n) for n in range(10)]
    assert exported.export_max_abs < 1e-5

    frame = pd.DataFrame({"rooms": [1.0, 2, 3, 4], "age": [3.0, 1, 4, 1]})
    scaled = ColumnTransformer([("scale", StandardScaler(), ["rooms", "age"])])
    price = frame["rooms"] * 2 - frame["age"]
    line = make_pipeline(scaled, LinearRegression()).fit(frame, price)
    (tmp_path / "line").mkdir()
    exported = export(line, frame, directory=tmp_path / "line")
    assert [(t.name, t.shape) for t in exported.signature.inputs] == [("rooms", [1]), ("age", [1])]
    (answer,) = served(
        exported, rooms=np.array([[5.0]], np.float32), age=np.array([[2.0]], np.float32)
    )
    np.testing.assert_allclose(answer, [[8.0]], rtol=1e-4)
    (tmp_path / "matrix").mkdir()
    plain = LinearRegression().fit(frame, price)
    exported = export(plain, frame, directory=tmp_path / "matrix")
    assert [(t.name, t.shape) for t in exported.signature.inputs] == [("input", [2])]


def test_a_keras_model_keeps_the_names_of_its_inputs(keras: Any, tmp_path: Path) -> None:
    pixels, extra = keras.Input((8, 8, 1), name="pixels"), keras.Input((4,), name="extra")
    hidden = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(pixels))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Concatenate()([hidden, extra]))
    model = keras.Model([pixels, extra], keras.layers.Dense(2)(hidden))
    rows = {
        "pixels": np.random.default_rng(0).random((9, 8, 8, 1), np.float32),
        "extra": np.ones((9, 4), np.float32),
    }

    exported = export(model, rows, labels=["no", "yes"], directory=tmp_path)

    assert [(t.name, t.shape) for t in exported.signature.inputs] == [
        ("pixels", [8, 8, 1]),
        ("extra", [4]),
    ]
    (answer,) = served(exported, **{name: array[:5] for name, array in rows.items()})
    expected = model([rows["pixels"][:5], rows["extra"][:5]], training=False)
    np.testing.assert_allclose(answer, expected.detach().numpy(), atol=1e-5)


def doubling(batch: int | str) -> onnx.ModelProto:
    """y = x · [[2, 0], [0, 2]], as another library may have exported it."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [2.0, 0, 0, 2.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "elsewhere"
    return model


@pytest.mark.parametrize("batch", ["batch", 1])
def test_an_onnx_model_gets_a_free_batch_dimension(tmp_path: Path, batch: int | str) -> None:
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    file = tmp_path / "elsewhere.onnx"
    onnx.save(doubling(batch), file)
    for index, model in enumerate([doubling(batch), file, str(file)]):
        directory = tmp_path / str(index)
        directory.mkdir()
        exported = export(model, rows, directory=directory)
        assert exported.signature.inputs[0].shape == [2]
        assert exported.framework == "elsewhere"
        np.testing.assert_array_equal(served(exported, x=rows)[0], rows * 2)


def test_an_onnx_model_that_mixes_its_rows_is_refused(tmp_path: Path) -> None:
    model = doubling(1)
    model.graph.node[0].output[0] = "product"
    model.graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [1], [0]))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["product"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["product", "mean"], ["y"]),
        ]
    )
    with pytest.raises(InvalidInput, match="answers differently"):
        export(model, np.arange(10, dtype=np.float32).reshape(5, 2), directory=tmp_path)


@pytest.mark.parametrize(
    ("model", "example", "says"),
    [
        (object(), 1, "cannot be exported here"),
        ("absent.onnx", np.ones((1, 2)), "ONNX model is not valid"),
        (doubling(1), {"z": np.ones((1, 2), np.float32)}, "does not fit the model's inputs: x"),
        (doubling(1), np.float32(1), "same number of rows"),
        (doubling(1), np.ones((1, 3), np.float32), "does not run on the example input"),
        (doubling(1), None, "has no example input"),
        (LinearRegression(), np.ones((2, 2)), "cannot be converted to ONNX"),
        (LinearRegression(), np.ones(2), r"has the shape \[2\]"),
        (LinearRegression(), pd.DataFrame({"a": ["x"]}), "no numbers"),
        (StandardScaler, np.ones((2, 2)), "cannot be exported here"),
        (torch.nn.Linear(2, 1), np.ones(2), "does not run|leading batch"),
    ],
)
def test_what_cannot_be_handed_over_is_said_with_a_remedy(
    model: Any, example: Any, says: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        export(model, example, directory=tmp_path)
    assert refusal.value.remedy


def test_a_model_of_another_library_says_how_to_convert_it(tmp_path: Path) -> None:
    foreign = type("Booster", (), {"__module__": "lightgbm.basic"})()
    with pytest.raises(InvalidInput, match="A lightgbm Booster") as refusal:
        export(foreign, np.ones((1, 2)), directory=tmp_path)
    assert "onnxmltools" in refusal.value.remedy
