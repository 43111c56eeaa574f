"""Images: linted, without root, pinned, and with the locked versions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "images").glob("*/Dockerfile"))


def test_there_is_one_for_each_part() -> None:
    assert [file.parent.name for file in FILES] == ["hub", "ray", "singleuser", "triton"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None
    done = subprocess.run([hadolint, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_nothing_runs_as_root_and_every_base_has_a_version(file: Path) -> None:
    text = file.read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", last, re.M) == ["1000"]
    bases = re.findall(r"^ARG [A-Z]+_IMAGE=(.*)$", text, re.M)
    assert bases
    for base in bases:
        assert re.fullmatch(r"\S+:[0-9][0-9.]*[0-9a-z.-]*", base), base
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) <= {"${PYTHON_IMAGE}", "${TRITON_IMAGE}"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_what_is_copied_is_there(file: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", file.read_text(), re.M)
    assert copied
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source


def test_the_requirements_are_in_step_with_the_locks() -> None:
    check = [sys.executable, str(ROOT / ".ci" / "images.py"), "check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_each_image_has_what_it_is_for_and_no_more() -> None:
    def names(image: str) -> set[str]:
        text = (ROOT / "images" / image / "requirements.txt").read_text()
        assert all("==" in line for line in text.splitlines()[1:])
        return set(re.findall(r"^([a-z0-9._-]+)==", text, re.M))

    assert {"jupyterhub", "fastapi", "sqlalchemy", "psycopg"} <= names("hub")
    assert not {"torch", "ray", "pytest", "mypy"} & names("hub")
    assert {"jupyterlab", "torch", "ipykernel", "jupyterhub"} <= names("singleuser")
    assert not {"pytest", "playwright"} & names("singleuser")
    assert {"ray", "torch", "onnx"} <= names("ray")
    assert not {"jupyterhub", "fastapi-cli", "sqlalchemy-utils"} & names("ray")
