"""Export of torch modules to ONNX. Each export takes seconds, so there are few of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.export import export_torch


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
        )
        self.head = nn.Linear(4 * 64, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(pixels))


class Pooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)

    def forward(
        self, input_ids: torch.Tensor, output: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.embedding(input_ids) * output.unsqueeze(-1)
        return hidden, hidden.mean(1)


class ByValue(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.sum()) > 0:
            return x + 1
        return x - 1


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def test_a_cnn_has_names_shapes_labels_and_evaluation_rows(tmp_path: Path) -> None:
    model = Convolutional().train()
    model.body[0].eval()
    held = torch.rand(300, 1, 8, 8)

    exported = export_torch(
        model, held[:1], held, labels=[f"digit {n}" for n in range(10)], directory=tmp_path
    )

    (pixels,), (output,) = exported.signature.inputs, exported.signature.outputs
    assert (pixels.name, pixels.dtype, pixels.shape) == ("pixels", "float32", [1, 8, 8])
    assert (output.name, output.dtype, output.shape) == ("output", "float32", [10])
    assert exported.signature.labels is not None
    assert exported.signature.labels[3] == "digit 3"
    assert exported.export_max_abs < 1e-4
    assert exported.framework == f"torch {torch.__version__.split('+')[0]}"
    rows = load_file(exported.evaluation_path)
    assert {name: array.shape for name, array in rows.items()} == {
        "input.pixels": (256, 1, 8, 8),
        "output.output": (256, 10),
    }
    session = onnxruntime.InferenceSession(exported.onnx_path)
    for size in (1, 7):
        (answer,) = session.run(None, {"pixels": rows["input.pixels"][:size]})
        np.testing.assert_allclose(answer, rows["output.output"][:size], atol=1e-4)
    # As it was before: dropout on, the part that was at rest still at rest.
    assert model.training
    assert not model.body[0].training


def test_several_inputs_and_a_dimension_that_differs_between_the_inputs_is_free(
    tmp_path: Path,
) -> None:
    example = {"input_ids": torch.ones(1, 5, dtype=torch.int64), "output": torch.ones(1, 5)}
    held = {
        "input_ids": torch.randint(0, 50, (4, 9)),
        "output": torch.ones(4, 9),
    }

    exported = export_torch(Pooling(), example, held, directory=tmp_path)

    shapes = {tensor.name: tensor.shape for tensor in exported.signature.inputs}
    assert shapes == {"input_ids": [None], "output": [None]}
    # An output may not have an input's name.
    outputs = {tensor.name: tensor.shape for tensor in exported.signature.outputs}
    assert outputs == {"output_out": [None, 8], "output_1": [8]}
    session = onnxruntime.InferenceSession(exported.onnx_path)
    answer = session.run(
        ["output_1"],
        {"input_ids": np.ones((2, 3), np.int64), "output": np.ones((2, 3), np.float32)},
    )[0]
    assert answer.shape == (2, 8)


def test_a_model_that_depends_on_values_does_not_export(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be exported to ONNX") as caught:
        export_torch(ByValue(), torch.rand(2, 3), directory=tmp_path)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def test_a_model_that_answers_differently_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="answers differently"):
        export_torch(Random(), torch.rand(2, 3), directory=tmp_path)


def test_a_number_of_labels_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There are 2 labels"):
        export_torch(nn.Linear(3, 4), torch.rand(2, 3), labels=["a", "b"], directory=tmp_path)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (torch.tensor(1.0), "leading batch dimension"),
        (torch.rand(0, 3), "leading batch dimension"),
        ([[1.0, 2.0]], "leading batch dimension"),
        (torch.rand(2, 3, dtype=torch.complex64), "cannot be served"),
        ({"nonsense": torch.rand(2, 3)}, "does not take"),
        ((torch.rand(2, 3), torch.rand(2, 3)), "forward takes 1"),
        (torch.rand(2, 5), "does not run on the example input"),
    ],
)
def test_an_example_that_cannot_be_meant(example: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        export_torch(nn.Linear(3, 4), example, directory=tmp_path)
    assert caught.value.remedy
