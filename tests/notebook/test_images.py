"""Endpoints of images as they are published and called in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import image_files
import numpy as np
import onnxruntime
import pytest
from api_world import World
from image_files import BLUE, GREEN, RED, file, noise, plain
from PIL import Image

import aiaas_magics as aiaas
from aiaas_hub.adapters import triton_local
from aiaas_hub.domain.endpoints import IMAGE_BATCH
from aiaas_hub.schemas import pixels
from aiaas_hub.schemas.errors import InvalidInput, NotFound
from aiaas_magics.errors import PublishFailed

PROCESSOR = {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
COLOURS = ["red", "green", "blue"]


@pytest.fixture
def seeing(working: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The service, whose serving engine runs what it was given here and now; no server is asked,
    as there is one in tests/engines/test_snippets.py."""
    backend = Path(triton_local.__file__).parent / "onnxruntime_backend"
    monkeypatch.syspath_prepend(str(backend))
    monkeypatch.setitem(sys.modules, "pixels", pixels)
    from image_step import ImageStep

    serving = working.serving

    def infer(model: str, version: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        session = onnxruntime.InferenceSession(serving.staged[model, version])
        step = ImageStep(session.get_modelmeta().custom_metadata_map, session)
        assert len(inputs["image"]) <= serving.options[model].largest_batch
        made = step.before(step.read(inputs["image"]))
        (scores,) = session.run(None, made)
        answers = {session.get_outputs()[0].name: scores + np.float32(serving.offset)}
        return dict(step.label.after(answers))

    monkeypatch.setattr(serving, "infer", infer)

    def predict(_caller: Any, endpoint: Any, x: Any, *_: Any) -> dict[str, Any]:
        """What tritonclient would send goes to the engine, and what it reads comes back."""
        from aiaas_magics.inference import _pieces, _read, to_tensors

        signature = endpoint.signature
        ((model, versions),) = serving.served.items()
        found = [
            infer(model, max(versions), piece)
            for piece in _pieces(to_tensors(signature, x), endpoint.largest_batch, is_image=True)
        ]
        _caller.last_version = max(versions)
        return {
            spec.name: _read(spec, np.concatenate([one[spec.name] for one in found]))
            for spec in signature.outputs
        }

    monkeypatch.setattr("aiaas_magics.inference.Caller.predict", predict)
    yield working
    for name in ("image_step", "label_step", "steps"):
        del sys.modules[name]


@pytest.mark.usefixtures("notebook")
def test_images_are_published_and_asked_about(seeing: World, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(plain(RED))
    images = [path, plain(GREEN, "JPEG"), Image.new("RGB", (50, 9), BLUE), noise(40, 40)]
    model = image_files.colours()
    endpoint = aiaas.publish(model, images, name="colours", processor=PROCESSOR, labels=COLOURS)
    # Images are not compared with the held-out ones, which its card does not say each time.
    assert "callers send" not in endpoint._repr_mimebundle_()["text/plain"]
    assert endpoint.state == "serving"
    # As few at once as files may be large.
    newest = endpoint.refresh().versions[0]
    assert newest.options.max_batch == IMAGE_BATCH
    assert newest.parity is not None
    assert newest.parity.rows == 4
    assert newest.parity.max_abs < 1e-5
    assert "image (an image's file)" in endpoint._text()
    assert endpoint.classify(path) == ["red"]
    assert endpoint.classify([str(path), *images[1:3]] * 10) == COLOURS * 10
    found: Any = endpoint.predict(Image.new("RGB", (5, 5), BLUE))
    assert found["label"].tolist() == ["blue"]
    assert found["output"].shape == (1, 3)
    assert "image.jpg" in str(endpoint.snippet("curl"))
    (model_of_it,) = aiaas.models.list()
    assert model_of_it.signature.takes_image
    panel = aiaas.panel("deploy")
    operation = panel.model.operation
    assert operation.by_picture
    operation.try_picture(plain(GREEN), invert=False)
    assert "<b>green</b>" in operation.answer
    operation.try_rows(str(path))
    assert "takes images" in operation.answer
    panel.close()


@pytest.mark.usefixtures("notebook")
def test_an_engine_that_sees_otherwise_does_not_serve(seeing: World) -> None:
    """The source is the processor and the model in Python."""
    seeing.serving.offset = 0.1
    with pytest.raises(PublishFailed, match=r"differ from the source model's by 0\.1"):
        aiaas.publish(
            image_files.colours(), [file(noise(9, 9))], name="colours", processor=PROCESSOR
        )


@pytest.mark.usefixtures("notebook")
def test_what_is_said_before_anything_is_sent(seeing: World) -> None:
    model, more = image_files.colours(), {"name": "colours"}
    with pytest.raises(InvalidInput, match="'side' is not known"):
        aiaas.publish(model, ["nowhere.png"], processor={"side": 3}, **more)
    with pytest.raises(NotFound, match=r"no image at 'nowhere\.png'"):
        aiaas.publish(model, ["nowhere.png"], processor=PROCESSOR, **more)
    assert seeing.ok("GET", "/models")["items"] == []
