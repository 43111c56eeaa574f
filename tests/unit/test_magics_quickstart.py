"""The quickstart as it is shipped: valid, without outputs, and of lines that the verbs take."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from aiaas_magics import parsing

PATH = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(PATH, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return list(notebook.cells)


def test_it_is_shipped_without_what_a_run_leaves(cells: list[nbformat.NotebookNode]) -> None:
    assert len({cell.id for cell in cells}) == len(cells)
    for cell in cells:
        # Named by hand, so that an edit is seen as one.
        assert cell.id.replace("-", "").isalpha()
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_a_cell_may_be_run_twice(cells: list[nbformat.NotebookNode]) -> None:
    transform = TransformerManager().transform_cell
    for cell in cells:
        if cell.cell_type == "code":
            names = {
                node.id
                for node in ast.walk(ast.parse(transform(cell.source)))
                if isinstance(node, ast.Name)
            }
            # The value of the cell before is another one the second time.
            assert "_" not in names


def test_every_line_is_one_that_its_verb_takes(cells: list[nbformat.NotebookNode]) -> None:
    seen = []
    for cell in cells:
        for line in cell.source.splitlines() if cell.cell_type == "code" else ():
            _, magic, rest = line.partition("%aiaas ")
            if magic:
                verb, *words = parsing.split(rest, {})
                parsing.find(verb).parse(words)
                seen.append(verb)
    assert {"preview", "train", "publish", "predict", "keys", "lineage"} <= set(seen)
