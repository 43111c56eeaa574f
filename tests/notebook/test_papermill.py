"""A notebook that papermill fills in and runs, as a schedule would."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest
from api_world import World
from papermill.exceptions import PapermillExecutionError

import aiaas_magics as aiaas

LOAD = "%load_ext aiaas_magics"
TRAIN = """\
%%aiaas train --name nightly --detach --param epochs={epochs}
def train(ctx):
    ctx.report(step=1, loss=1.0)"""


def written(path: Path, *sources: str) -> Path:
    """The first of its cells holds its parameters."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(made, path)
    return path


def test_its_parameters_are_those_of_the_run(world: World, tmp_path: Path) -> None:
    notebook = written(tmp_path / "nightly.ipynb", "epochs = 1", LOAD, TRAIN, "%aiaas runs")
    done = tmp_path / "done.ipynb"
    papermill.execute_notebook(notebook, done, {"epochs": 7}, progress_bar=False)
    (run,) = aiaas.runs.list()
    assert run.params == {"epochs": 7}
    shown = nbformat.read(done, as_version=4).cells[-1].outputs
    assert "nightly" in shown[0].data["text/plain"]


def test_a_refusal_ends_it_with_its_remedy(world: World, tmp_path: Path) -> None:
    notebook = written(tmp_path / "wrong.ipynb", "name = 'nope'", LOAD, "%aiaas model {name}")
    done = tmp_path / "done.ipynb"
    with pytest.raises(PapermillExecutionError):
        papermill.execute_notebook(notebook, done, progress_bar=False)
    # IPython prints a usage error, and hands nothing of it on: the notebook says it.
    (said,) = nbformat.read(done, as_version=4).cells[-1].outputs
    assert said.text == "UsageError: There is no model nope. See %aiaas models.\n"
