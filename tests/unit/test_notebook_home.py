from __future__ import annotations

from pathlib import Path

import pytest

from aiaas_hub.spawner.notebook_home import directory_name, prepare_directory

NAMES = ["ada", "..", ".", ".hidden", "a/b", "../../etc", "testuser<'&\">", "ünï", "%2E", "x" * 255]


@pytest.mark.parametrize("user", NAMES)
def test_a_user_name_becomes_one_plain_file_name(tmp_path: Path, user: str) -> None:
    name = directory_name(user)
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert not name.startswith(".")
    assert len(name.encode()) <= 255
    (tmp_path / name).mkdir()


def test_different_users_have_different_directories() -> None:
    longer = [*NAMES, "x" * 254 + "y", "%2Ehidden", "Ada", "é" * 255, "é" * 254]
    assert len({directory_name(user) for user in longer}) == len(longer)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    directory = tmp_path / "shipped"
    directory.mkdir()
    (directory / "quickstart.ipynb").write_text("one")
    (directory / "data").mkdir()
    (directory / "data" / "a.csv").write_text("a")
    (directory / "__pycache__").mkdir()
    (directory / "__pycache__" / "x.pyc").write_text("x")
    return directory


def test_examples_are_copied_and_updated_until_touched(tmp_path: Path, examples: Path) -> None:
    user = tmp_path / "ada"
    prepare_directory(user, examples)
    copy = user / "examples" / "quickstart.ipynb"
    assert copy.read_text() == "one"
    assert (user / "examples" / "data" / "a.csv").exists()
    assert not (user / "examples" / "__pycache__").exists()

    (examples / "quickstart.ipynb").write_text("two")
    prepare_directory(user, examples)
    assert copy.read_text() == "two"

    copy.write_text("mine")
    (examples / "quickstart.ipynb").write_text("three")
    prepare_directory(user, examples)
    assert copy.read_text() == "mine"

    copy.unlink()
    prepare_directory(user, examples)
    assert not copy.exists(), "a deleted example stays deleted"


def test_a_file_of_the_users_own_is_never_replaced(tmp_path: Path, examples: Path) -> None:
    user = tmp_path / "ada"
    (user / "examples").mkdir(parents=True)
    (user / "examples" / "quickstart.ipynb").write_text("mine")
    prepare_directory(user, examples)
    assert (user / "examples" / "quickstart.ipynb").read_text() == "mine"


def test_a_broken_record_replaces_nothing(tmp_path: Path, examples: Path) -> None:
    user = tmp_path / "ada"
    prepare_directory(user, examples)
    (user / "examples" / ".aiaas-examples.json").write_text("[")
    (examples / "quickstart.ipynb").write_text("two")
    prepare_directory(user, examples)
    assert (user / "examples" / "quickstart.ipynb").read_text() == "one"
