"""Each snippet that can run here, run against the real gateway and Triton."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import httpx
import numpy as np
import onnx_models
import pytest
from gateway_world import AUDIENCE, BASE, OWNER, SIGNATURE, World, route
from image_files import BLUE, GREEN, RED, bomb, file, noise, plain
from PIL import Image
from programs import command, run

from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.gateway.routes import MAX_JSON_BYTES
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics.file_snippets import FILE
from aiaas_magics.snippets import LANGUAGES, snippet

pytestmark = pytest.mark.engines


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_calls(world: World, tmp_path: Path, language: str) -> None:
    world.envoy.apply([route((2, 100))])
    text = snippet(language, world.envoy.url + BASE, "scale", SIGNATURE)
    key = world.key()
    assert key not in text
    ran = run(language, text, tmp_path, key)
    assert "version 2" in ran or "x-aiaas-model-version: 2" in ran
    assert "total" in ran


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_sends_a_text(world: World, tmp_path: Path, language: str) -> None:
    """The Open Inference Protocol's BYTES as JSON, with a key, through the gateway."""
    signature = onnx_models.TEXT_SIGNATURE
    if "text-1" not in world.triton.models():
        onnx = onnx_models.text(tmp_path / "m.onnx")
        world.triton.install(world.triton.stage("text-1", 4, signature, onnx))
        world.triton.set_versions("text-1", signature, [4])
    world.envoy.apply([Route(OWNER, "scale", [RouteTarget("text-1", 4, 100)], AUDIENCE)])
    text = snippet(language, world.envoy.url + BASE, "scale", signature)
    ran = run(language, text, tmp_path, world.key())
    assert "version 4" in ran or "x-aiaas-model-version: 4" in ran
    assert "label" in ran
    assert "bad" in ran


def test_tritonclient_sends_texts(world: World, tmp_path: Path) -> None:
    from tritonclient import http

    signature = onnx_models.TEXT_SIGNATURE
    onnx = onnx_models.text(tmp_path / "m.onnx")
    world.triton.install(world.triton.stage("text-2", 1, signature, onnx))
    world.triton.set_versions("text-2", signature, [1])
    world.envoy.apply([Route(OWNER, "scale", [RouteTarget("text-2", 1, 100)], AUDIENCE)])
    client = http.InferenceServerClient(world.envoy.url.removeprefix("http://") + BASE)
    texts = http.InferInput("text", [2, 1], "BYTES")
    texts.set_data_from_numpy(np.array([["good"], ["bad"]], object))
    key = {"Authorization": f"Bearer {world.key()}"}
    answer = client.infer("scale", [texts], headers=key)
    assert answer.as_numpy("label").tolist() == [[b"good"], [b"bad"]]
    metadata = client.get_model_metadata("scale", headers=key)
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
    with pytest.raises(Exception, match="401"):
        client.infer("scale", [texts])
    client.close()


IMAGE = onnx_models.IMAGE_SIGNATURE


def serve_images(world: World, tmp_path: Path) -> None:
    if "image-1" not in world.triton.models():
        onnx = onnx_models.image(tmp_path / "m.onnx")
        world.triton.install(world.triton.stage("image-1", 5, IMAGE, onnx))
        world.triton.set_versions("image-1", IMAGE, [5])
    world.envoy.apply([Route(OWNER, "scale", [RouteTarget("image-1", 5, 100)], AUDIENCE)])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_sends_an_image(world: World, tmp_path: Path, language: str) -> None:
    """Larger than any JSON may be, with bytes of all kinds in it and in its length."""
    serve_images(world, tmp_path)
    image = Image.new("RGB", (900, 700), BLUE)
    image.paste(noise(900, 500), (0, 200))
    image = Image.blend(image, Image.new("RGB", (900, 700), BLUE), 0.5)
    (tmp_path / FILE).write_bytes(file(image))
    assert (tmp_path / FILE).stat().st_size > MAX_JSON_BYTES
    text = snippet(language, world.envoy.url + BASE, "scale", IMAGE)
    ran = run(language, text, tmp_path, world.key())
    assert "version 5" in ran or "x-aiaas-model-version: 5" in ran
    assert "label" in ran
    assert "blue" in ran


def test_the_name_of_an_input_is_no_part_of_a_program(world: World, tmp_path: Path) -> None:
    spec = TensorSpec(name="$(touch x) `touch x` '\"\\n\\", dtype="string", shape=[1], kind="image")
    odd = Signature(inputs=[spec], outputs=IMAGE.outputs, labels=IMAGE.labels)
    (tmp_path / FILE).write_bytes(plain(BLUE))
    serve_images(world, tmp_path)
    for language in ("python", "curl", "javascript"):
        text = snippet(language, world.envoy.url + BASE, "scale", odd)
        ran = subprocess.run(
            command(language, text, tmp_path),
            cwd=tmp_path,
            env={**os.environ, "AIAAS_KEY": world.key()},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        # Triton has no input of this name.
        assert "400" in ran.stdout + ran.stderr or "unexpected" in ran.stderr
        assert not (tmp_path / "x").exists()


def test_an_image_is_sent_in_three_ways(world: World, tmp_path: Path) -> None:
    """As a binary tensor, as a body of its own, and in base64 in JSON; what is none is a 400."""
    from tritonclient import http

    serve_images(world, tmp_path)
    key = {"Authorization": f"Bearer {world.key()}"}
    client = http.InferenceServerClient(world.envoy.url.removeprefix("http://") + BASE)
    images = http.InferInput("image", [2, 1], "BYTES")
    images.set_data_from_numpy(np.array([[plain(GREEN)], [plain(RED, "JPEG")]], object))
    answer = client.infer("scale", [images], headers=dict(key))
    assert answer.as_numpy("label").tolist() == [[b"green"], [b"red"]]
    metadata = client.get_model_metadata("scale", headers=key)
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    client.close()

    address = f"{world.envoy.url}{BASE}/v2/models/scale/infer"
    raw = {**key, "Inference-Header-Content-Length": "0"}
    found = httpx.post(address, content=plain(BLUE, "WEBP"), headers=raw)
    assert found.status_code == 200
    assert b"blue" in found.content

    def as_json(data: list[str]) -> httpx.Response:
        tensor = {"name": "image", "shape": [len(data), 1], "datatype": "BYTES", "data": data}
        return httpx.post(address, json={"inputs": [tensor]}, headers=key)

    found = as_json([base64.b64encode(plain(colour)).decode() for colour in (RED, BLUE)])
    (labels,) = [one["data"] for one in found.json()["outputs"] if one["name"] == "label"]
    assert labels == ["red", "blue"]
    for refused, says in (
        (as_json(["hello"]), "neither PNG, JPEG or WEBP"),
        (httpx.post(address, content=b"rubbish", headers=raw), "neither PNG, JPEG or WEBP"),
        (httpx.post(address, content=bomb(60_000), headers=raw), "more than 50,000,000 pixels"),
        (httpx.post(address, content=plain(RED)[:-30], headers=raw), "damaged"),
    ):
        assert refused.status_code == 400
        assert says in refused.json()["error"]
        assert str(world.envoy.url) not in refused.text


def test_what_cannot_be_written_is_said() -> None:
    with pytest.raises(InvalidInput, match="no snippet in 'cobol'"):
        snippet("cobol", "http://h", "m", SIGNATURE)
    image = TensorSpec(name="image", dtype="float32", shape=[3, 224, 224])
    large = Signature(inputs=[image], outputs=[image])
    with pytest.raises(InvalidInput, match="150528 values"):
        snippet("curl", "http://h", "m", large)
    assert "* 150528" in snippet("python", "http://h", "m", large)
    odd = TensorSpec(name='it\'s "x"\\', dtype="bool", shape=[None, 2])
    compile(snippet("python", "http://h", "m", Signature(inputs=[odd], outputs=[odd])), "x", "exec")
