"""Precision over HTTP: what was measured is told, and what answers otherwise is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_world import World
from canary_calls import ENDPOINT, publish, routed

from aiaas_hub.domain.ports import ConvertedModel
from aiaas_hub.schemas.endpoints import ModelFigures

# What differs between the databases is in tests/contract/test_records.py.
pytestmark = pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)

BEFORE = ModelFigures(size_bytes=4_000_000, p50_ms=2.0, rows_per_second=800.0)
AFTER = ModelFigures(size_bytes=1_100_000, p50_ms=1.5, rows_per_second=1000.0)


class Halves:
    """Stands in for the converter: the real one is in tests/contract/test_precision.py."""

    def __init__(self, after: ModelFigures = AFTER) -> None:
        self.after = after

    @contextmanager
    def converted(
        self, onnx: Path, precision: str, rows: Path, batch: int
    ) -> Iterator[ConvertedModel]:
        made = onnx.with_name(f"{precision}.onnx")
        made.write_bytes(precision.encode() + onnx.read_bytes())
        yield ConvertedModel(made, BEFORE, self.after)


@pytest.fixture
def halving(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(world.reconciler._publisher, "_converter", Halves())
    return world


def published(world: World, onnx: bytes, precision: str) -> Any:
    world.model(onnx=onnx)
    body = {"model": "cnn", "options": {"precision": precision}}
    world.ok("POST", f"{ENDPOINT}/publish", json=body)
    world.tick()
    return world.ok("GET", ENDPOINT)


def test_size_and_speed_before_and_after_are_in_the_report(halving: World) -> None:
    publish(halving, b"one")
    # A little off, as fewer bits are.
    halving.serving.offset = 0.05
    endpoint = published(halving, b"one", "fp16")
    assert endpoint["traffic"] == {"2": 100}, endpoint["versions"][0]["error"]
    # What is served is the converted file, as a Triton model of its own.
    (staged,) = {content for key, content in halving.serving.staged.items() if key[1] == 2}
    assert staged == b"fp16one"
    (route,) = halving.gateway.routes
    assert len({target.model for target in route.targets}) == 2
    parity = endpoint["versions"][0]["parity"]
    assert parity["max_abs"] == pytest.approx(0.05, abs=1e-4)
    assert parity["conversion"] == {
        "precision": "fp16",
        "before": BEFORE.model_dump(),
        "after": AFTER.model_dump(),
        "tolerance": 0.01,
        "disagreement": 0.0,
        "max_disagreement": 0.01,
    }


def test_the_same_difference_without_a_precision_is_refused(halving: World) -> None:
    halving.serving.offset = 0.05
    endpoint = publish(halving, b"one")
    assert "differ from the source model's by 0.05" in endpoint["versions"][0]["error"]


@pytest.mark.parametrize(("precision", "offset"), [("fp16", 0.5), ("int8", 20.0)])
def test_too_large_a_difference_is_refused_with_the_numbers(
    halving: World, precision: str, offset: float
) -> None:
    publish(halving, b"one")
    halving.serving.offset = offset
    endpoint = published(halving, b"one", precision)
    assert (routed(halving), endpoint["state"]) == ({1: 100}, "failed")
    error = endpoint["versions"][0]["error"]
    assert f"In {precision} the model answers 0.0% of 4 held-out rows otherwise" in error
    assert f"the largest difference is {offset:.3g}" in error
    assert "1,100,000 bytes instead of 4,000,000" in error
    assert "1.50 ms a row instead of 2.00" in error


def test_other_answers_are_refused_however_small_the_difference(
    halving: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(halving, b"one")
    infer = halving.serving.infer

    def turned(model: str, version: int, inputs: Any) -> dict[str, Any]:
        answer = infer(model, version, inputs)
        if version == 2:
            # The second class instead of the third, by no more than int8 may be off.
            answer["output"] = answer["output"] + np.array([0, 2.5, 0], np.float32)
        return answer

    monkeypatch.setattr(halving.serving, "infer", turned)
    endpoint = published(halving, b"one", "int8")
    assert (
        "answers 100.0% of 4 held-out rows otherwise, and 2% are"
        in (endpoint["versions"][0]["error"])
    )


def test_what_gets_no_smaller_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.reconciler._publisher, "_converter", Halves(after=BEFORE))
    error = published(world, b"one", "int8")["versions"][0]["error"]
    assert "int8 makes this model no smaller (4,000,000 bytes before, 4,000,000 after)" in error
    assert world.serving.installed == set()


def test_an_unknown_precision_is_refused(world: World) -> None:
    world.model()
    body = {"model": "cnn", "options": {"precision": "int4"}}
    assert world.call("POST", f"{ENDPOINT}/publish", json=body).status_code == 400
