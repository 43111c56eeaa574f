"""The recipe `text-classifier`: an encoder of the BERT family with a head, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aiaas_magics.runtime.recipes import classes, pretrained
from aiaas_magics.runtime.recipes.descent import descend, prepare, say
from aiaas_magics.runtime.recipes.evaluation import Confusion, Measure
from aiaas_magics.runtime.recipes.parameters import TextClassifier
from aiaas_magics.runtime.recipes.rows import Indices, split

if TYPE_CHECKING:
    from aiaas_magics.runtime.context import Context

_SERVED_ROWS = 32
"""As many as the export looks at."""


def train(ctx: Context, parameters: TextClassifier) -> None:
    frame = ctx.dataset().to_pandas()
    for column in (parameters.text, parameters.target):
        if column not in frame:
            raise classes.no_column(column, frame)
    frame = frame.dropna(subset=[parameters.text, parameters.target])
    labels, truth = classes.encode(frame[parameters.target])
    training, held_out = split(len(frame), parameters.eval_split, parameters.seed)
    torch.manual_seed(parameters.seed)
    tokenizer, encoder = _pretrained(parameters.model)
    written = frame[parameters.text].astype(str).tolist()
    texts = Texts(tokenizer, written, parameters.max_length)
    say(ctx, f"{len(frame)} texts in {len(labels)} classes")
    network = Classifier(encoder, len(labels), parameters.frozen)
    model = prepare(ctx, network, parameters)
    task = Task(ctx, texts, torch.from_numpy(truth), labels)
    measure = descend(ctx, model, task, parameters, training, held_out)
    classes.tell(ctx, measure)
    served = [written[row] for row in held_out[:_SERVED_ROWS]]
    ctx.save_model(
        model,
        served[:2],
        served,
        labels,
        tokenizer=tokenizer,
        max_length=parameters.max_length,
    )


def _pretrained(source: str) -> tuple[Any, nn.Module]:
    from transformers import AutoModel, AutoTokenizer

    pretrained.quiet()
    tokenizer, encoder = pretrained.load(
        source, AutoTokenizer.from_pretrained, AutoModel.from_pretrained
    )
    if getattr(encoder, "pooler", None) is not None:
        # The head pools by itself; weights without a gradient would hold up DDP.
        encoder.pooler = None
    return tokenizer, encoder


class Texts:
    """Token ids of texts, padded batch by batch to the longest one."""

    def __init__(self, tokenizer: Any, texts: list[str], max_length: int) -> None:
        self._tokenizer = tokenizer
        encoded = tokenizer(texts, truncation=True, max_length=max_length)
        self._ids: list[list[int]] = encoded["input_ids"]

    def batch(self, rows: Indices) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask, int64 (rows, tokens)."""
        chosen = {"input_ids": [self._ids[row] for row in rows]}
        padded = self._tokenizer.pad(chosen, return_tensors="pt")
        return {name: padded[name] for name in ("input_ids", "attention_mask")}


class Classifier(nn.Module):
    """The mean of the encoder's last hidden states over a text's tokens, and a linear head."""

    def __init__(self, encoder: nn.Module, outputs: int, frozen: int) -> None:
        super().__init__()
        self.encoder = encoder
        config: Any = encoder.config
        self.head = nn.Linear(config.hidden_size, outputs)
        if frozen:
            _freeze(encoder, frozen)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits: torch.Tensor = self.head((hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0))
        return logits


def _freeze(encoder: nn.Module, layers: int) -> None:
    """The embeddings and the first `layers` blocks keep their weights."""
    blocks = next((part for part in encoder.modules() if isinstance(part, nn.ModuleList)), None)
    embeddings = getattr(encoder, "embeddings", None)
    for part in [embeddings, *list(blocks or [])[:layers]]:
        if part is not None:
            part.requires_grad_(False)


class Task:
    """What `descend` asks."""

    def __init__(self, ctx: Context, texts: Texts, truth: torch.Tensor, labels: list[str]) -> None:
        self._device = ctx.device
        self._texts = texts
        self._truth = truth
        self._labels = labels

    def loss(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        return nn.functional.cross_entropy(
            self._answer(model, rows), self._truth[rows].to(self._device)
        )

    def measure(self) -> Measure:
        return Confusion(self._labels)

    def evaluate(
        self, model: nn.Module, rows: Indices, counted: torch.Tensor, measure: Measure
    ) -> None:
        measure.add(self._answer(model, rows), self._truth[rows], counted)

    def _answer(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        batch = self._texts.batch(rows)
        logits: torch.Tensor = model(
            **{name: tensor.to(self._device) for name, tensor in batch.items()}
        )
        return logits
