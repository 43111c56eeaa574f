"""The recipe `tabular`: a perceptron over a table's columns, which it encodes by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.named_inputs import input_names, with_named_inputs
from aiaas_magics.runtime.recipes import classes
from aiaas_magics.runtime.recipes.descent import descend, prepare, say
from aiaas_magics.runtime.recipes.evaluation import Confusion, Measure, Residuals
from aiaas_magics.runtime.recipes.parameters import Tabular
from aiaas_magics.runtime.recipes.rows import Indices, split

if TYPE_CHECKING:
    import pandas as pd

    from aiaas_magics.runtime.context import Context

_MAX_CODES = 10_000
_MAX_SHOWN_CODES = 50
_REGRESSION_FROM = 20


def train(ctx: Context, parameters: Tabular) -> None:
    frame = ctx.dataset().to_pandas()
    if parameters.target not in frame:
        raise classes.no_column(parameters.target, frame)
    frame = frame[frame[parameters.target].notna()].reset_index(drop=True)
    training, held_out = split(len(frame), parameters.eval_split, parameters.seed)
    table = Table.of(frame, _chosen(parameters, frame), training)
    torch.manual_seed(parameters.seed)
    if _is_regression(parameters, frame[parameters.target]):
        target = frame[parameters.target].to_numpy(np.float32)
        scale = _Scale.of(target[training])
        network: nn.Module = Perceptron(table, parameters, outputs=1, scale=scale)
        task = Task(ctx, table, torch.from_numpy(target), None, scale)
        labels = None
    else:
        labels, truth = classes.encode(frame[parameters.target])
        network = Perceptron(table, parameters, outputs=len(labels))
        task = Task(ctx, table, torch.from_numpy(truth), labels, None)
    for column, codes in table.codes.items():
        shown = ", ".join(f"{text}={code}" for text, code in list(codes.items())[:_MAX_SHOWN_CODES])
        say(ctx, f"codes of {column}: {shown}{', …' if len(codes) > _MAX_SHOWN_CODES else ''}")
    model = prepare(ctx, network, parameters)
    measure = descend(ctx, model, task, parameters, training, held_out)
    classes.tell(ctx, measure)
    served = with_named_inputs(
        ctx.whole(model),
        input_names(list(table.arrays)),
        lambda module, values: module(dict(zip(table.arrays, values, strict=True))),
    )
    rows = tuple(table.inputs(held_out[:256]).values())
    ctx.save_model(served, tuple(column[:2] for column in rows), rows, labels)


@dataclass(frozen=True)
class _Scale:
    """Mean and standard deviation of training values."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> _Scale:
        present = values[np.isfinite(values)].astype(np.float64)
        if not len(present):
            return cls(0.0, 1.0)
        return cls(float(present.mean()), float(present.std()) or 1.0)


@dataclass(frozen=True)
class Table:
    """Columns as arrays: float32 numbers, with the training mean for missing ones, and int64
    codes of texts, 0 for missing or unknown ones."""

    arrays: dict[str, NDArray[Any]]
    scales: dict[str, _Scale]
    codes: dict[str, dict[str, int]]

    @classmethod
    def of(cls, frame: pd.DataFrame, columns: list[str], training: Indices) -> Table:
        """Scales and codes are those of the training rows only."""
        arrays: dict[str, NDArray[Any]] = {}
        scales: dict[str, _Scale] = {}
        codes: dict[str, dict[str, int]] = {}
        for column in columns:
            values = frame[column]
            if values.dtype.kind in "biuf":
                numbers = values.to_numpy(np.float32, copy=True)
                scales[column] = scale = _Scale.of(numbers[training])
                numbers[~np.isfinite(numbers)] = scale.mean
                arrays[column] = numbers
                continue
            texts = values.iloc[training].dropna().astype(str)
            found = sorted(texts.unique())
            if len(found) > _MAX_CODES:
                raise InvalidInput(
                    f"Column {column!r} has {len(found)} different texts, which is no category.",
                    remedy="Leave it out: --param columns=… names the inputs.",
                )
            codes[column] = {text: code for code, text in enumerate(found, 1)}
            # By the text: a missing value is none of them.
            arrays[column] = (
                values.map(lambda value, known=codes[column]: known.get(str(value), 0))
                .fillna(0)
                .to_numpy(np.int64)
            )
        return cls(arrays, scales, codes)

    def inputs(self, rows: Indices) -> dict[str, torch.Tensor]:
        """{column: (rows, 1)}"""
        return {
            name: torch.from_numpy(array[rows]).unsqueeze(1) for name, array in self.arrays.items()
        }


class Perceptron(nn.Module):
    """Takes the columns as they are: scaling and embedding are part of it, and of what serves."""

    def __init__(
        self, table: Table, parameters: Tabular, outputs: int, scale: _Scale | None = None
    ) -> None:
        super().__init__()
        self._numbers = list(table.scales)
        self._texts = list(table.codes)
        means = [table.scales[name].mean for name in self._numbers]
        deviations = [table.scales[name].deviation for name in self._numbers]
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.tensor(means))
        self.register_buffer("deviation", torch.tensor(deviations))
        sizes = [len(table.codes[name]) + 1 for name in self._texts]
        widths = [min(16, 1 + size // 2) for size in sizes]
        self.embeddings = nn.ModuleList(map(nn.Embedding, sizes, widths))
        width = len(self._numbers) + sum(widths)
        layers: list[nn.Module] = []
        for _ in range(parameters.layers):
            layers += [nn.Linear(width, parameters.width), nn.ReLU()]
            layers += [nn.Dropout(parameters.dropout)]
            width = parameters.width
        self.body = nn.Sequential(*layers, nn.Linear(width, outputs))
        # In the target's own unit, whatever that is.
        self._scale = scale

    def forward(self, columns: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = []
        if self._numbers:
            numbers = torch.cat([columns[name] for name in self._numbers], dim=1)
            parts.append((numbers - self.mean) / self.deviation)
        for name, embedding in zip(self._texts, self.embeddings, strict=True):
            parts.append(embedding(columns[name].squeeze(1)))
        output: torch.Tensor = self.body(torch.cat(parts, dim=1))
        if self._scale is not None:
            return output * self._scale.deviation + self._scale.mean
        return output


class Task:
    """What `descend` asks; `labels` are the classes, None for numbers."""

    def __init__(
        self,
        ctx: Context,
        table: Table,
        truth: torch.Tensor,
        labels: list[str] | None,
        scale: _Scale | None,
    ) -> None:
        self._device = ctx.device
        self._table = table
        self._truth = truth
        self._labels = labels
        self._scale = scale

    def loss(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        output, truth = self._answer(model, rows), self._truth[rows].to(self._device)
        if self._scale is None:
            return nn.functional.cross_entropy(output, truth)
        # In deviations of the target, so that one learning rate suits all units.
        return nn.functional.mse_loss(
            output.squeeze(1) / self._scale.deviation, truth / self._scale.deviation
        )

    def measure(self) -> Measure:
        return Residuals() if self._labels is None else Confusion(self._labels)

    def evaluate(
        self, model: nn.Module, rows: Indices, counted: torch.Tensor, measure: Measure
    ) -> None:
        output = self._answer(model, rows)
        if isinstance(measure, Residuals):
            output = output.squeeze(1)
        measure.add(output, self._truth[rows], counted)

    def _answer(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        columns = self._table.inputs(rows)
        output: torch.Tensor = model(
            {name: column.to(self._device) for name, column in columns.items()}
        )
        return output


def _chosen(parameters: Tabular, frame: pd.DataFrame) -> list[str]:
    if parameters.columns is None:
        chosen = [str(column) for column in frame.columns if column != parameters.target]
    else:
        chosen = [column.strip() for column in parameters.columns.split(",") if column.strip()]
    for column in chosen:
        if column not in frame:
            raise classes.no_column(column, frame)
    if not chosen or parameters.target in chosen:
        raise InvalidInput(
            f"There is no column to predict {parameters.target!r} from.",
            remedy="Name other columns: --param columns=….",
        )
    return chosen


def _is_regression(parameters: Tabular, target: pd.Series[Any]) -> bool:
    numeric = target.dtype.kind in "iuf"
    if parameters.task == "regression" and not numeric:
        raise InvalidInput(
            f"The target {parameters.target!r} holds no numbers.",
            remedy="Leave --param task=… out, or name another target.",
        )
    if parameters.task != "auto":
        return parameters.task == "regression"
    fractions = target.dtype.kind == "f" and bool((target % 1 != 0).any())
    return numeric and (fractions or target.nunique() > _REGRESSION_FROM)
