"""Hands over models of TensorFlow: `tensorflow_models.py DIRECTORY` writes what became of them.

A program of its own, as Keras has one backend in a process. Beside TensorFlow torch is imported,
as it is in every worker.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
import torch  # noqa: F401
from keras import layers

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.sources import export

ROOT = Path(sys.argv[1])
answers: dict[str, Any] = {}


def hand_over(name: str, model: Any, example: Any, *arguments: Any, **options: Any) -> None:
    directory = ROOT / name
    directory.mkdir()
    try:
        exported = export(model, example, *arguments, directory=directory, **options)
    except InvalidInput as error:
        answers[name] = {"refused": error.message, "remedy": error.remedy}
        return
    answers[name] = {
        "inputs": [(t.name, t.dtype, t.shape) for t in exported.signature.inputs],
        "outputs": [(t.name, t.dtype, t.shape) for t in exported.signature.outputs],
        "labels": exported.signature.labels,
        "framework": exported.framework,
        "max_abs": exported.export_max_abs,
    }


class Own(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return tf.nn.softmax(self.dense(x))


class Module(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(tf.random.normal((5, 3)))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.int32)])
    def __call__(self, ids: Any) -> Any:
        pooled = tf.reduce_mean(tf.gather(self.w, ids), 1)
        return tf.nn.softmax(pooled), pooled


def two_inputs() -> Any:
    pixels, extra = keras.Input((8, 8, 1), name="pixels"), keras.Input((4,), name="extra")
    hidden = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(pixels))
    hidden = layers.Dropout(0.5)(layers.Concatenate()([layers.Flatten()(hidden), extra]))
    return keras.Model([pixels, extra], layers.Dense(2)(hidden))


def sentences() -> Any:
    ids = keras.Input((None,), dtype="int32", name="ids")
    read = layers.Bidirectional(layers.LSTM(8, return_sequences=True))
    text = layers.GlobalAveragePooling1D()(read(layers.Embedding(50, 8)(ids)))
    return keras.Model(ids, {"score": layers.Dense(1)(text), "embedding": text})


def main() -> None:
    tf.random.set_seed(0)
    model = two_inputs()
    rows = {"pixels": np.random.default_rng(0).random((9, 8, 8, 1)), "extra": np.ones((9, 4))}
    hand_over("keras", model, rows, labels=["no", "yes"])
    np.savez(ROOT / "keras.npz", answer=model.predict(rows, verbose=0), **rows)
    hand_over("sentences", sentences(), np.ones((2, 5)), np.ones((4, 9)))
    hand_over("own", Own(), np.ones((2, 4)))

    module, ids = Module(), np.array([[1, 2, 3, 4]])
    hand_over("module", module, ids)
    tf.saved_model.save(module, str(ROOT / "archive"))
    saved = tf.saved_model.load(str(ROOT / "archive"))
    hand_over("saved", saved.signatures["serving_default"], ids)
    two, square = np.ones((2, 3), np.float32), np.ones((2, 3, 3), np.float32)
    product = tf.function(lambda x, y: tf.cast(x, tf.float32) * y)
    hand_over("function", product, (np.ones((2, 3), np.int64), two))

    hand_over("variable", tf.Variable(1.0), two)
    hand_over("no_call", tf.Module(), two)
    hand_over("random", tf.function(lambda x: x + tf.random.uniform(tf.shape(x))), two)
    hand_over("misfit", model, two)
    hand_over("wrong", module, np.ones((2, 7), np.int32))
    hand_over("mixing", tf.function(lambda x: tf.reduce_sum(x, 0)), two)
    hand_over("unknown", tf.function(lambda x: tf.linalg.svd(x)[0]), square)
    (ROOT / "answers.json").write_text(json.dumps(answers))


main()
