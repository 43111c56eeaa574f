"""Loops of other frameworks on a real Ray worker, and what they hand over."""

from __future__ import annotations

import time
from importlib.util import find_spec

import numpy as np
import onnxruntime
import pytest
from job_service import TOKEN, JobService
from safetensors.numpy import load

from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.schemas.models import ModelHandOver
from aiaas_hub.schemas.runs import RunState

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]

OVER = (JobState.ENDED, JobState.FAILED, JobState.STOPPED)

KERAS = """
import os
os.environ["KERAS_BACKEND"] = "{backend}"
import keras
import numpy as np


def train(ctx):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(256, 4)).astype("float32")
    labels = (rows.sum(1) > 0).astype("int64")
    model = keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2),
    ])
    model.compile(
        optimizer=keras.optimizers.Adam(0.02),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    told = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ctx.report(
            step=epoch + 1, loss=logs["loss"], accuracy=logs["accuracy"]
        )
    )
    model.fit(rows, labels, epochs=20, verbose=0, callbacks=[told])
    print("trained with", keras.backend.backend())
    ctx.save_model(model, rows[:8], eval_input=rows, labels=["below", "above"])
"""

SCIKIT_LEARN = """
import numpy as np
from sklearn.linear_model import SGDClassifier


def train(ctx):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(256, 4)).astype("float32")
    labels = (rows.sum(1) > 0).astype("int64")
    model = SGDClassifier(loss="log_loss", random_state=0)
    for epoch in range(20):
        model.partial_fit(rows, labels, classes=[0, 1])
        ctx.report(step=epoch + 1, accuracy=model.score(rows, labels))
    print("trained with scikit-learn")
    ctx.save_model(model, rows[:8], eval_input=rows, labels=["below", "above"])
"""

needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not here: make test-tensorflow"
)


@pytest.mark.parametrize(
    ("backend", "cell"),
    [
        pytest.param("torch", KERAS.format(backend="torch"), id="keras-on-torch"),
        pytest.param(
            "tensorflow",
            KERAS.format(backend="tensorflow"),
            id="keras-on-tensorflow",
            marks=needs_tensorflow,
        ),
        pytest.param("scikit-learn", SCIKIT_LEARN, id="scikit-learn"),
    ],
)
def test_a_loop_of_another_framework_reports_and_hands_over(
    ray_local: RayLocal, job_service: JobService, backend: str, cell: str
) -> None:
    run = job_service.add(f"run-of-{backend}", cell)
    job = JobSubmission(f"{run.job.run_id}-1", run.job.owner, run.job.resources, TOKEN)
    ray_local.submit(job)
    deadline = time.monotonic() + 240
    while not ((status := ray_local.status(job.id)) and status.state in OVER):
        assert time.monotonic() < deadline, (status, run.log)
        time.sleep(0.2)

    assert run.state is RunState.SUCCEEDED, run.log
    assert f"trained with {backend}" in run.log
    accuracies = [values["accuracy"] for _, values in run.metrics.values()]
    assert len(accuracies) == 20
    assert accuracies[-1] > 0.9

    assert run.model is not None
    model = ModelHandOver.model_validate(run.model)
    assert model.signature.labels == ["below", "above"]
    rows = load(job_service.blobs[model.evaluation])
    inputs = {name.removeprefix("input."): rows[name] for name in rows if name.startswith("input.")}
    expected = {
        name.removeprefix("output."): rows[name] for name in rows if name.startswith("output.")
    }
    session = onnxruntime.InferenceSession(job_service.blobs[model.onnx])
    answers = session.run(list(expected), inputs)
    for answer, named in zip(answers, expected.values(), strict=True):
        np.testing.assert_allclose(answer, named, atol=1e-4)
