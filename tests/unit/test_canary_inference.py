"""What an inference of a held-out row tells, without an engine."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import onnx_models
import pytest

from aiaas_hub.domain.canary_inference import judged
from aiaas_hub.schemas.endpoints import (
    EndpointState,
    EndpointVersion,
    Parity,
    Precision,
    ServingOptions,
)
from aiaas_hub.schemas.models import PinnedModel

SCORES = np.array([[0.1, 20.0]], np.float32)
LABEL = np.array([[b"good"]], object)


def version(max_abs: float = 0.0, precision: Precision | None = None) -> EndpointVersion:
    return EndpointVersion(
        version=1,
        model=PinnedModel(owner="ann", name="likes", version=1),
        state=EndpointState.SERVING,
        created_at=datetime.now(UTC),
        created_by="ann",
        options=ServingOptions(precision=precision),
        parity=Parity(max_abs=max_abs, rows=4, batches=[1], p50_ms=1, p99_ms=1),
    )


@pytest.mark.parametrize(
    ("off", "of", "wrong"),
    [
        (0.0, version(), False),
        (0.019, version(), False),
        (0.021, version(), True),
        (0.021, version(max_abs=0.005), False),
        (0.19, version(precision="fp16"), False),
        (0.21, version(precision="fp16"), True),
        (np.nan, version(max_abs=1), True),
    ],
)
def test_an_answer_is_as_right_as_it_was(off: float, of: EndpointVersion, wrong: bool) -> None:
    answer = {"scores": SCORES - np.float32(off), "label": LABEL}
    health = judged(answer, {"scores": SCORES}, of, onnx_models.TEXT_SIGNATURE)
    assert (health.is_wrong, bool(health.fault)) == (wrong, wrong)


def test_what_lacks_a_tensor_or_names_another_label_is_wrong() -> None:
    for answer in (
        {"scores": SCORES, "label": np.array([[b"bad"]], object)},
        {"scores": SCORES},
        {"label": LABEL},
        {"scores": SCORES[:, :1], "label": LABEL},
    ):
        health = judged(answer, {"scores": SCORES}, version(), onnx_models.TEXT_SIGNATURE)
        assert health.is_wrong
