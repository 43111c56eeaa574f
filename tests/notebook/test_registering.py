"""A model object is registered with its card, and published then or later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from api_world import World
from notebook_shell import Notebook
from torch import nn

import aiaas_magics
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.publishing import publish

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def doubler() -> Any:
    """As the stand-in engine answers: 2x."""
    line = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        line.weight.copy_(2 * torch.eye(3))
    return line


def test_a_model_is_registered_and_published_later(
    working: World, notebook: Notebook, doubler: Any
) -> None:
    notebook.shell.push({"line": doubler, "x": ROWS})
    model = notebook.run(
        "import aiaas_magics as aiaas\n"
        "model = aiaas.models.register(line, x[:2], name='twice', eval_input=x, licence='MIT',\n"
        "    labels=['a', 'b', 'c'], description='Doubles', metrics={'f1': 0.5})\nmodel"
    )
    assert (str(model), model.run_id) == ("alice/twice@1", None)
    assert model.signature.labels == ["a", "b", "c"]
    assert (model.card.description, model.card.licence) == ("Doubles", "MIT")
    assert model.card.metrics == {"f1": 0.5}
    assert "Doubles" in repr(model)
    assert not list(aiaas_magics.endpoints.list())
    endpoint = publish(model, name="digits")
    assert endpoint.state == "serving"
    assert str(endpoint.refresh().versions[0].model) == "alice/twice@1"


def test_the_same_content_gets_no_other_version_but_what_is_said_of_it(
    world: World, doubler: Any
) -> None:
    register = aiaas_magics.models.register
    register(doubler, ROWS, name="twice", description="Doubles", licence="MIT")
    again = register(doubler, ROWS, name="twice", licence="Apache-2.0")
    assert again.version == 1
    assert (again.card.description, again.card.licence) == ("Doubles", "Apache-2.0")
    assert register(doubler, ROWS, name="twice").card == again.card
    with torch.no_grad():
        doubler.weight.mul_(2)
    assert register(doubler, ROWS, name="twice").version == 2


@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
def test_a_file_of_torchscript_is_published(working: World, doubler: Any, tmp_path: Path) -> None:
    file = tmp_path / "twice.pt"
    torch.jit.save(torch.jit.script(doubler), file)
    endpoint = publish(str(file), ROWS, name="twice", licence="MIT")
    assert endpoint.state == "serving"
    assert aiaas_magics.models.get("twice").card.licence == "MIT"


def test_what_cannot_be_registered_is_said_before_anything_is_sent(
    world: World, doubler: Any
) -> None:
    register = aiaas_magics.models.register
    for wrong, says in (
        (lambda: register("run-1234567890", ROWS, name="twice"), "neither a model nor its file"),
        (lambda: register(doubler, ROWS), "no name"),
        (lambda: register(doubler, name="twice"), "no example input"),
        (lambda: register(doubler, ROWS, name="Ä"), "name"),
        (lambda: register(doubler, ROWS, name="twice", licence="x" * 201), "200"),
        (lambda: register(object(), ROWS, name="twice"), "cannot be exported here"),
    ):
        with pytest.raises(InvalidInput, match=says) as refusal:
            wrong()
        assert refusal.value.remedy
    assert not list(aiaas_magics.models.list())
    world.model()
    with pytest.raises(InvalidInput, match="has a card") as refusal:
        publish(aiaas_magics.models.get("cnn"), licence="MIT")
    assert "describe" in refusal.value.remedy
