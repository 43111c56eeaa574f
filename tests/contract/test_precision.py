"""Models in fewer bits, by onnxruntime's own tools: smaller, alike, and the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from image_files import BLUE, RED, plain
from safetensors.numpy import save_file

from aiaas_hub.adapters.precision import OnnxConverter
from aiaas_hub.schemas import strings
from aiaas_hub.schemas.endpoints import Precision
from aiaas_hub.schemas.errors import InvalidInput


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return onnx_models.network(tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.55), ("int8", 0.35)])
def test_a_network_is_smaller_and_takes_and_gives_the_same(
    network: tuple[Path, Path], precision: Precision, share: float
) -> None:
    import onnxruntime

    model, rows = network
    contents = []
    for _ in range(2):
        with OnnxConverter().converted(model, precision, rows, 256) as made:
            contents.append(made.path.read_bytes())
            session = onnxruntime.InferenceSession(made.path)
        assert not made.path.exists()
        assert made.before.size_bytes == model.stat().st_size
        assert made.after.size_bytes < share * made.before.size_bytes
        for figures in (made.before, made.after):
            assert figures.p50_ms > 0
            assert figures.rows_per_second > 1000
    # A publish that was interrupted goes on with the very file that was staged.
    assert contents[0] == contents[1]
    (x,), (y,) = session.get_inputs(), session.get_outputs()
    assert (x.type, y.type) == ("tensor(float)", "tensor(float)")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_model_of_texts_keeps_its_tokenizer(tmp_path: Path, precision: Precision) -> None:
    """Its held-out rows are texts, which the file's own inputs are not."""
    model = onnx_models.text(tmp_path / "text.onnx")
    rows = tmp_path / "rows.safetensors"
    texts = np.array([["good"], ["bad"]], object)
    save_file({"input.text": strings.pack(texts), "output.scores": np.eye(2)[::-1].copy()}, rows)
    with OnnxConverter().converted(model, precision, rows, 4) as made:
        kept = {prop.key: prop.value for prop in onnx.load(made.path).metadata_props}
    known = {prop.key: prop.value for prop in onnx.load(model).metadata_props}
    assert known.items() <= kept.items()
    assert made.after.p50_ms > 0


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_model_of_images_keeps_what_it_does_to_them(tmp_path: Path, precision: Precision) -> None:
    """Its held-out rows are files; here the file's own input has the same name."""
    model = onnx_models.image(tmp_path / "image.onnx")
    rows = tmp_path / "rows.safetensors"
    files = np.array([[plain(RED)], [plain(BLUE)]], object)
    scores = np.eye(3, dtype=np.float32)[[0, 2]]
    save_file({"input.image": strings.pack(files), "output.scores": scores}, rows)
    with OnnxConverter().converted(model, precision, rows, 4) as made:
        kept = {prop.key: prop.value for prop in onnx.load(made.path).metadata_props}
    assert [prop.value for prop in onnx.load(model).metadata_props] == [kept["aiaas.step"]]
    assert made.after.p50_ms > 0


def test_what_is_no_model_is_said_and_no_path_with_it(
    network: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    wanted: tuple[Precision, ...] = ("fp16", "int8")
    for precision in wanted:
        with (
            pytest.raises(InvalidInput, match=f"cannot be made {precision}") as refused,
            OnnxConverter().converted(broken, precision, network[1], 8),
        ):
            raise AssertionError
        assert str(tmp_path) not in refused.value.message
