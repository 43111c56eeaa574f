"""Tiny ONNX models for the tests, made without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from aiaas_hub.schemas.models import Signature, TensorSpec

SCALE_SIGNATURE = Signature(
    inputs=[TensorSpec(name="x", dtype="float32", shape=[3])],
    outputs=[
        TensorSpec(name="y", dtype="float32", shape=[3]),
        TensorSpec(name="total", dtype="float32", shape=[]),
    ],
)


def scale(path: Path, factor: float, *, batch: int | str = "batch") -> Path:
    """y = factor · x and its sum per row; a model per factor, so that answers tell versions."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "factor"], ["y"]),
            helper.make_node("ReduceSum", ["y", "axes"], ["total"], keepdims=0),
        ],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, [batch]),
        ],
        [
            helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    return _save(graph, path)


def identity(path: Path, dtype: int, shape: list[int | str]) -> Path:
    """y = x, of any type and shape."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", dtype, ["batch", *shape])],
        [helper.make_tensor_value_info("y", dtype, ["batch", *shape])],
    )
    return _save(graph, path)


SLOW_SIGNATURE = Signature(
    inputs=[TensorSpec(name="x", dtype="float32", shape=[3])],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[3])],
)


def slow(path: Path, rounds: int) -> Path:
    """y = x, after `rounds` multiplications by one: about a microsecond each."""
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    rows = ["batch", 3]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go_on"]),
            helper.make_node("Mul", ["y_in", "one"], ["y_out"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y_in", TensorProto.FLOAT, rows),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y_out", TensorProto.FLOAT, rows),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "true", "x"], ["y"], body=body)],
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, rows)],
        [
            true,
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("rounds", TensorProto.INT64, [], [rounds]),
        ],
    )
    return _save(graph, path)


LOOKUP_SIGNATURE = SLOW_SIGNATURE


def lookup(path: Path) -> Path:
    """y = x for the numbers 0, 1 and 2, and no answer to others. Its node has a name like those
    that exporters give, which onnxruntime puts into its error."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["indices"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "indices"], ["y"], name="/encoder/layer/Gather"),
        ],
        "lookup",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("table", TensorProto.FLOAT, [3], [0.0, 1.0, 2.0])],
    )
    return _save(graph, path)


TEXT_SIGNATURE = Signature(
    inputs=[TensorSpec(name="text", dtype="string", shape=[1], kind="text")],
    outputs=[
        TensorSpec(name="scores", dtype="float32", shape=[2]),
        TensorSpec(name="label", dtype="string", shape=[1], kind="label"),
    ],
    labels=["bad", "good"],
)


def text(path: Path, labels: Sequence[str] = ("bad", "good")) -> Path:
    """Scores of a text: how often it says `bad` and `good`. Takes texts of at most 8 words."""
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "bad": 2, "good": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.enable_truncation(8)
    words.enable_padding(pad_id=0)
    table = [[9, 9], [0, 0], [1, 0], [0, 1]]  # the padding's row shows a mask that is forgotten
    tokens = ["batch", "tokens"]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["each"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["each", "column"], ["seen"]),
            helper.make_node("ReduceSum", ["seen", "axes"], ["scores"], keepdims=0),
        ],
        "text",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, tokens),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, tokens),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])],
        [
            helper.make_tensor("table", TensorProto.FLOAT, [4, 2], np.ravel(table)),
            helper.make_tensor("last", TensorProto.INT64, [1], [2]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    _save(graph, path)
    model = onnx.load(path)
    step = {
        "input": "text",
        "tensors": {"input_ids": "ids", "attention_mask": "mask"},
        "label": {"output": "label", "names": list(labels)},
    }
    model.metadata_props.add(key="aiaas.step", value=json.dumps(step))
    model.metadata_props.add(key="aiaas.tokenizer", value=words.to_str())
    onnx.save(model, path)
    return path


IMAGE_SIGNATURE = Signature(
    inputs=[TensorSpec(name="image", dtype="string", shape=[1], kind="image")],
    outputs=[
        TensorSpec(name="scores", dtype="float32", shape=[3]),
        TensorSpec(name="label", dtype="string", shape=[1], kind="label"),
    ],
    labels=["red", "green", "blue"],
)


def image(
    path: Path,
    labels: Sequence[str] = ("red", "green", "blue"),
    pixels: Mapping[str, object] | None = None,
) -> Path:
    """Scores of a picture: the mean of each of its colours, 0 to 1, over 8 by 8 pixels."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image"], ["scores"], axes=[2, 3], keepdims=0)],
        "image",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
    )
    _save(graph, path)
    model = onnx.load(path)
    step = {
        "input": "image",
        "pixels": pixels or {"size": [8, 8], "background": "white"},
        "label": {"output": "label", "names": list(labels)},
    }
    model.metadata_props.add(key="aiaas.step", value=json.dumps(step))
    onnx.save(model, path)
    return path


def external(path: Path, location: str) -> Path:
    """A model whose weights lie in another file, as an attacker would name it."""
    weights = TensorProto(
        name="w",
        data_type=TensorProto.FLOAT,
        dims=[3],
        data_location=TensorProto.EXTERNAL,
        external_data=[
            onnx.StringStringEntryProto(key="location", value=location),
            onnx.StringStringEntryProto(key="offset", value="0"),
            onnx.StringStringEntryProto(key="length", value="12"),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "w"], ["y"]),
            helper.make_node("ReduceSum", ["y", "axes"], ["total"], keepdims=0),
        ],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch"]),
        ],
        [weights, helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    return _save(graph, path)


def _save(graph: onnx.GraphProto, path: Path) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


NETWORK_SIGNATURE = Signature(
    inputs=[TensorSpec(name="x", dtype="float32", shape=[64])],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[10])],
)


def network(directory: Path) -> tuple[Path, Path]:
    """Two layers of 256 over 64 numbers, and held-out rows of it."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(64, 256)).astype(np.float32) / 8,
        "w2": random.normal(size=(256, 10)).astype(np.float32) / 16,
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w2"], ["y"]),
        ],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, directory / "model.onnx")
    x = random.normal(size=(40, 64)).astype(np.float32)
    y = np.maximum(x @ weights["w1"], 0) @ weights["w2"]
    save_file({"input.x": x, "output.y": y}, directory / "rows.safetensors")
    return directory / "model.onnx", directory / "rows.safetensors"
