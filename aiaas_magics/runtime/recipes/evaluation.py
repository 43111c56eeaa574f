"""What held-out rows say of a model, over all workers: sums that every worker adds to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist

_MAX_CELLS_AS_METRICS = 100


class Confusion:
    """Counts of (true class, predicted class), and what follows from them.

    With C(t, p) the count and n its sum: accuracy Σ C(t, t) / n; of a class its precision
    C(c, c) / Σ C(t, c), recall C(c, c) / Σ C(c, p) and F1 2·precision·recall / (precision +
    recall), 0 where a divisor is 0; macro F1 is the mean over the classes that occur.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        size = len(self.classes)
        self._counts = torch.zeros(size, size, dtype=torch.int64)
        self._loss = torch.zeros(2, dtype=torch.float64)

    def add(self, logits: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> None:
        """`logits` float (rows, classes), `truth` int64 (rows), `counted` bool (rows)."""
        logits, truth = logits.detach().float().cpu()[counted], truth.cpu()[counted]
        size = len(self.classes)
        cells = truth * size + logits.argmax(1)
        self._counts += torch.bincount(cells, minlength=size * size).view(size, size)
        loss = torch.nn.functional.cross_entropy(logits, truth, reduction="sum")
        self._loss += torch.tensor([float(loss), len(truth)], dtype=torch.float64)

    def gather(self, device: torch.device) -> None:
        """Sum over the workers, once, after the last `add`."""
        self._counts = summed(self._counts, device)
        self._loss = summed(self._loss, device)

    @property
    def counts(self) -> list[list[int]]:
        """Rows are true classes, columns predicted ones."""
        counts: list[list[int]] = self._counts.tolist()
        return counts

    def metrics(self) -> dict[str, float]:
        right = self._counts.diag().double()
        true, predicted = self._counts.sum(1), self._counts.sum(0)
        f1 = 2 * right / (true + predicted).clamp(min=1)
        return {
            "eval_loss": float(self._loss[0] / self._loss[1]),
            "accuracy": float(right.sum() / self._counts.sum()),
            "f1": float(f1[true > 0].mean()),
        }

    def cells(self) -> dict[str, float]:
        """`confusion/<true>/<predicted>` of each pair, where there are not too many of them."""
        if self._counts.numel() > _MAX_CELLS_AS_METRICS:
            return {}
        return {
            f"confusion/{true[:100]}/{predicted[:100]}": float(count)
            for true, row in zip(self.classes, self.counts, strict=True)
            for predicted, count in zip(self.classes, row, strict=True)
        }

    def table(self, most: int = 30) -> str:
        """For the log, with each class's precision and recall; of many classes the first."""
        shown = [name[:16] for name in self.classes[:most]]
        width = max(6, *(len(name) for name in shown))
        head = " ".join(f"{name:>{width}}" for name in [*shown, "recall"])
        lines = [f"{'true / predicted':<{max(16, width)}} {head}"]
        right = self._counts.diag().double()
        recall = (right / self._counts.sum(1).clamp(min=1)).tolist()
        precision = (right / self._counts.sum(0).clamp(min=1)).tolist()
        for name, row, share in zip(shown, self.counts, recall, strict=False):
            cells = " ".join(f"{count:>{width}}" for count in row[:most])
            lines.append(f"{name:<{max(16, width)}} {cells} {share:>{width}.3f}")
        shares = " ".join(f"{share:>{width}.3f}" for share in precision[:most])
        lines.append(f"{'precision':<{max(16, width)}} {shares}")
        if len(self.classes) > most:
            lines.append(f"and {len(self.classes) - most} classes more")
        return "\n".join(lines)


class Residuals:
    """Errors of predicted numbers: RMSE √(Σ e² / n), MAE Σ |e| / n, R² 1 - Σ e² / Σ (y - ȳ)²."""

    def __init__(self) -> None:
        self._sums = torch.zeros(5, dtype=torch.float64)

    def add(self, predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> None:
        """`predicted` and `truth` float (rows), in the target's unit; `counted` bool (rows)."""
        true = truth.double().cpu()[counted]
        error = predicted.detach().double().cpu()[counted] - true
        self._sums += torch.stack(
            [
                error.square().sum(),
                error.abs().sum(),
                true.sum(),
                true.square().sum(),
                torch.tensor(float(len(true)), dtype=torch.float64),
            ]
        )

    def gather(self, device: torch.device) -> None:
        self._sums = summed(self._sums, device)

    def metrics(self) -> dict[str, float]:
        squares, absolute, total, of_squares, count = self._sums.tolist()
        spread = of_squares - total**2 / count
        return {
            "rmse": math.sqrt(squares / count),
            "mae": absolute / count,
            "r2": 1 - squares / spread if spread > 0 else 0.0,
        }


class Perplexity:
    """exp of the mean negative log-likelihood per token, in nats."""

    def __init__(self) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64)

    def add(self, logits: torch.Tensor, tokens: torch.Tensor, counted: torch.Tensor) -> None:
        """`logits` float (rows, tokens, vocabulary), `tokens` int64 (rows, tokens), `counted`
        bool (rows). Each token but a row's first is predicted from those before it."""
        logits, tokens = logits.detach().float().cpu()[counted], tokens.cpu()[counted]
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"
        )
        count = tokens.shape[0] * (tokens.shape[1] - 1)
        self._sums += torch.tensor([float(loss), count], dtype=torch.float64)

    def gather(self, device: torch.device) -> None:
        self._sums = summed(self._sums, device)

    def metrics(self) -> dict[str, float]:
        loss, count = self._sums.tolist()
        return {"eval_loss": loss / count, "perplexity": math.exp(min(loss / count, 700))}


Measure = Confusion | Residuals | Perplexity


def summed(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Over all workers, which call it together."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    there = values.to(device)
    dist.all_reduce(there)
    return there.to(values.device)
