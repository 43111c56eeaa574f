"""Tab after `%aiaas`, asked as a kernel asks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from api_world import World
from IPython.core.completer import provisionalcompleter
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_magics import completion
from aiaas_magics.commands import COMMANDS


def tab(notebook: Notebook, line: str) -> set[str]:
    """What the kernel would offer at the end of the line."""
    with provisionalcompleter():
        found = notebook.shell.Completer.completions(line, len(line))
        return {completion.text for completion in found}


@pytest.fixture
def filled(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    aiaas.datasets.put("digits", pd.DataFrame({"x": [1], "label": ["a"]}))
    aiaas.datasets.put("letters", pd.DataFrame({"x": [2]}))
    world.model("cnn")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sales.csv").touch()
    (tmp_path / "train.py").touch()
    return world


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%aiaas dat", {"datasets"}),
        ("%%aiaas tra", {"train"} | {"traffic"}),
        ("%aiaas help publ", {"publish"}),
        ("%aiaas preview dig", {"digits"}),
        ("%aiaas preview ", {"digits", "letters"}),
        ("%aiaas preview digits --col", {"--columns"}),
        ("%%aiaas train --dataset let", {"letters"}),
        ("%%aiaas train --name x --detach --dataset dig", {"digits"}),
        ("%aiaas publish e --model c", {"cnn"}),
        ("%aiaas keys e cr", {"create"}),
        ("%aiaas register x y --format par", {"parquet"}),
        ("%aiaas help rec", {"recipe"}),
        ("%aiaas load digits --columns ", {"x", "label"}),
        ("%aiaas preview digits --columns x,la", {"label"}),
        ("%aiaas panel ", {"datasets", "runs", "deploy"}),
        ("%aiaas register x data/sa", {"data/sales.csv"}),
        ("%%aiaas train --name x tra", {"train.py"}),
    ],
)
def test_tab(filled: World, notebook: Notebook, line: str, offered: set[str]) -> None:
    assert tab(notebook, line) >= offered


def test_a_run_and_a_variable(filled: World, notebook: Notebook) -> None:
    run = notebook.run("%%aiaas train --name cnn --detach\ndef train(ctx): ...\n")
    assert run.id in tab(notebook, "%aiaas run run-")
    # As many as one likes, and then something else.
    assert run.id in tab(notebook, f"%aiaas runs --compare {run.id} run-")
    assert "-n" in tab(notebook, f"%aiaas runs --compare {run.id} -")
    notebook.run("pixels_of_today = 1")
    assert "pixels_of_today" in tab(notebook, "%aiaas predict e pixels_of")


def test_names_are_asked_for_once(filled: World, notebook: Notebook) -> None:
    assert "digits" in tab(notebook, "%aiaas load dig")
    aiaas.datasets.put("digraphs", pd.DataFrame({"x": [3]}))
    assert "digraphs" not in tab(notebook, "%aiaas load dig")
    completion._cache.clear()
    assert "digraphs" in tab(notebook, "%aiaas load dig")


def test_the_module_of_the_same_name_is_left_alone(notebook: Notebook) -> None:
    notebook.run("import aiaas_magics as aiaas")
    assert not tab(notebook, "aiaas ") & set(COMMANDS)
    assert {"aiaas.datasets", ".datasets", "datasets"} & tab(notebook, "aiaas.data")


def test_a_tab_without_a_platform_is_quiet(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIAAS_URL", raising=False)
    tab(notebook, "%aiaas load dig")
    monkeypatch.setenv("AIAAS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "x")
    completion._cache.clear()
    tab(notebook, "%aiaas load dig")
    tab(notebook, "%aiaas nonsense --x")
    assert "Traceback" not in "".join(capsys.readouterr())
