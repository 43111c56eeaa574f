"""Hand-over of TorchScript: scripted, traced and frozen modules, and files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_magics.runtime.sources import export

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")


class Stepping(nn.Module):
    """A loop over the columns, and a branch by value: what the newer exporter has no way for."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        held = torch.zeros_like(values)
        for _ in range(values.size(1)):
            held = held * 0.5 + values
        if bool(held.max() > 1000.0):
            held = held * 0.0
        return held


class Parted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": self.dropout(left + right), "product": left * right}


class OfFour(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.ones(4, 1)


def answers(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = onnxruntime.InferenceSession(path).run(None, inputs)
    return found


def test_a_scripted_module_keeps_its_loops_and_branches(tmp_path: Path) -> None:
    exported = export(torch.jit.script(Stepping()), torch.rand(2, 3), directory=tmp_path)
    (given,), (output,) = exported.signature.inputs, exported.signature.outputs
    assert (given.name, given.dtype, given.shape) == ("values", "float32", [3])
    assert (output.name, output.dtype) == ("output", "float32")
    assert exported.framework == f"torch {torch.__version__.split('+')[0]}"
    rows = np.random.default_rng(0).random((7, 3), np.float32)
    np.testing.assert_allclose(
        answers(exported.onnx_path, values=rows)[0], Stepping()(torch.from_numpy(rows)), atol=1e-6
    )
    (zeros,) = answers(exported.onnx_path, values=np.full((1, 3), 1e6, np.float32))
    assert not zeros.any()


def test_names_of_outputs_and_the_training_mode_are_those_of_the_module(tmp_path: Path) -> None:
    module = torch.jit.script(Parted()).train()
    exported = export(module, (torch.rand(4, 2), torch.rand(4, 2)), directory=tmp_path)
    assert [spec.name for spec in exported.signature.inputs] == ["left", "right"]
    assert [(s.name, s.shape) for s in exported.signature.outputs] == [
        ("sum", [2]),
        ("product", [2]),
    ]
    one = np.ones((3, 2), np.float32)
    total, product = answers(exported.onnx_path, left=one, right=one * 3)
    assert (total == 4).all()
    assert (product == 3).all()
    assert module.training


@pytest.mark.parametrize("kind", ["script", "trace", "frozen"])
def test_a_file_is_loaded_and_has_labels(tmp_path: Path, kind: str) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)).eval()
    rows = torch.rand(5, 4)
    scripted = torch.jit.trace(module, rows) if kind == "trace" else torch.jit.script(module)
    file = tmp_path / "model.pt"
    torch.jit.save(torch.jit.freeze(scripted) if kind == "frozen" else scripted, file)
    exported = export(str(file), rows[:2], rows, ["no", "yes"], directory=tmp_path)
    assert exported.signature.labels == ["no", "yes"]
    assert exported.export_max_abs < 1e-5
    (name,) = [spec.name for spec in exported.signature.inputs]
    expected = module(rows).detach()
    np.testing.assert_allclose(
        answers(exported.onnx_path, **{name: rows.numpy()})[0], expected, atol=1e-5
    )


def test_a_file_with_something_else_is_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    files = {"weights.pt": nn.Linear(2, 1).state_dict(), "trap.pth": Trap()}
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(InvalidInput, match=f"{name} holds no TorchScript") as refusal:
            export(tmp_path / name, torch.rand(2, 2), directory=tmp_path)
        assert "torch.jit.script" in refusal.value.remedy
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(AiaasError, match="no file"):
        export("absent.pt", torch.rand(2, 2), directory=tmp_path)


def test_a_module_whose_trace_knows_one_number_of_rows_is_refused(tmp_path: Path) -> None:
    traced = torch.jit.trace(OfFour(), torch.rand(4, 2))
    with pytest.raises(InvalidInput, match="does not run on the example"):
        export(traced, torch.rand(4, 2), directory=tmp_path)


def test_what_torchscript_cannot_be_given_with_is_said(tmp_path: Path) -> None:
    module = torch.jit.script(Parted())
    with pytest.raises(InvalidInput, match="takes no tokenizer") as refusal:
        export(module, ["a"], tokenizer=object(), directory=tmp_path)
    assert "scripted from" in refusal.value.remedy
    with pytest.raises(InvalidInput, match="which the model's forward does not take"):
        export(module, {"middle": torch.rand(2, 2)}, directory=tmp_path)
    with pytest.raises(InvalidInput, match="does not run"):
        export(module, torch.rand(2, 2), directory=tmp_path)
