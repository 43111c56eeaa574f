"""Models of texts with their tokenizer, as one ONNX file that an endpoint serves texts with.

The tokenizer goes along as its `tokenizer.json` in the file's metadata: see `steps`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.exported import ExportedModel, first_line
from aiaas_magics.runtime.steps import own_labels, with_step

if TYPE_CHECKING:
    import torch
    from torch import nn

TOKENIZER = "aiaas.tokenizer"
_TENSORS = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}
"""What a tokenizer of transformers calls it → what the step does."""
_MAX_TEXTS = 32
"""For the comparison of outputs: each costs a pass through an encoder several times over."""
_EMBEDDING = "sentence_embedding"
"""As sentence-transformers calls it; a shorter name may be that of a value in the graph."""
_MAX_LENGTH = 512
"""Tokens, where neither tokenizer nor model say how many they take."""


def export_text(
    model: Any,
    example_input: Any,
    eval_input: Any = None,
    labels: Sequence[str] | None = None,
    *,
    tokenizer: Any = None,
    max_length: int | None = None,
    directory: Path,
) -> ExportedModel:
    """Export `model`, which takes what `tokenizer` makes of texts, as a model that takes texts.

    A torch module whose forward takes `input_ids` and, if it does, `attention_mask` and
    `token_type_ids`, `[rows, tokens]`; a transformers pipeline or a SentenceTransformer brings its
    tokenizer. It answers with one row of output per text: of an encoder's hidden states, the mean
    over the tokens. `labels` are the model's own where it has names for them.

    Raises `InvalidInput` for a tokenizer that has no `tokenizer.json`, or as `export_torch` does.
    """
    from aiaas_magics.runtime.export import export_torch

    model, tokenizer = parts_of(model, tokenizer)
    length = max_length or _longest(model, tokenizer)
    texts = texts_of(example_input if eval_input is None else eval_input)[:_MAX_TEXTS]
    module, names = _module(model, tokenizer)
    rows = _tokens(tokenizer, names, texts, length)
    # Of another length than the rows: so the export knows that it is free.
    example = {name: _of_another_length(tensor[:2]) for name, tensor in rows.items()}
    if labels is None:
        labels = own_labels(model, "SequenceClassification")
    exported = export_torch(module, example, rows, labels, directory=directory)
    step = {"tensors": {name: _TENSORS[name] for name in names}}
    declared = {TOKENIZER: _declared(tokenizer, length)}
    return with_step(exported, "text", texts, step, labels, declared)


def parts_of(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """A pipeline's model and tokenizer; of anything else what was given."""
    if tokenizer is None:
        tokenizer = model.tokenizer
        model = model if _encodes(model) else model.model
    if not callable(getattr(tokenizer, "pad", None)) or not getattr(tokenizer, "is_fast", False):
        raise InvalidInput(
            f"A {type(tokenizer).__name__} has no tokenizer.json, which serving it takes.",
            remedy="Give a fast tokenizer: transformers.AutoTokenizer.from_pretrained(…).",
        )
    return model, tokenizer


def _encodes(model: Any) -> bool:
    """Whether it is a SentenceTransformer: it takes a dict, and pools as it was made to."""
    return any(base.__name__ == "SentenceTransformer" for base in type(model).__mro__)


def texts_of(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else list(() if given is None else given)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidInput(
            "The example of a model with a tokenizer is not made of texts.",
            remedy="Give a list of them: ['I loved it', 'Never again'].",
        )
    return texts


def _longest(model: Any, tokenizer: Any) -> int:
    """Tokens that both take."""
    said = [
        tokenizer.model_max_length,
        getattr(model, "max_seq_length", None),
        getattr(getattr(model, "config", None), "max_position_embeddings", None),
    ]
    # Where a tokenizer knows of no limit, it says a number of thirty digits.
    known = [int(length) for length in said if length and 0 < length <= 1 << 20]
    return min(known, default=_MAX_LENGTH)


def _tokens(
    tokenizer: Any, names: Sequence[str], texts: list[str], length: int
) -> dict[str, torch.Tensor]:
    try:
        found = tokenizer(
            texts, truncation=True, max_length=length, padding=True, return_tensors="pt"
        )
    except Exception as error:  # tokenizers raises no narrower one
        raise InvalidInput(
            f"The tokenizer does not take the example: {first_line(error)}",
            remedy="Give a tokenizer with a pad_token: tokenizer.pad_token = tokenizer.eos_token.",
        ) from error
    return {name: found[name] for name in names}


def _of_another_length(tensor: torch.Tensor) -> torch.Tensor:
    """Without the last token: of the longest text the model may take no more."""
    import torch

    if tensor.shape[1] > 2:
        return tensor[:, :-1]
    return torch.cat([tensor, tensor[:, -1:]], dim=1)


def _module(model: Any, tokenizer: Any) -> tuple[nn.Module, list[str]]:
    """What is exported, and the tensors of the tokenizer that it takes."""
    from aiaas_magics.runtime.named_inputs import with_named_inputs

    made = [name for name in _TENSORS if name in {*tokenizer.model_input_names, "attention_mask"}]
    if _encodes(model):

        def encode(module: Any, values: list[Any]) -> Any:
            return {_EMBEDDING: module(dict(zip(made, values, strict=True)))[_EMBEDDING]}

        return with_named_inputs(model, made, encode), made
    takes = inspect.signature(model.forward).parameters
    names = [name for name in made if name in takes]
    if "input_ids" not in names:
        raise InvalidInput(
            "The model's forward does not take input_ids, which a tokenizer makes.",
            remedy="Give the model that the tokenizer is of, or leave the tokenizer out.",
        )

    def call(module: Any, values: list[Any]) -> Any:
        given = dict(zip(names, values, strict=True))
        found = module(**given)
        hidden = getattr(found, "last_hidden_state", None)
        if hidden is not None:
            return {_EMBEDDING: _mean(hidden, given.get("attention_mask"))}
        # What a model of transformers computes besides is not asked for.
        return {"logits": found.logits} if hasattr(found, "logits") else found

    return with_named_inputs(model, names, call), names


def _mean(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`[rows, tokens, width]` → `[rows, width]`, over the tokens that are none of the padding."""
    if mask is None:
        return hidden.mean(1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def _declared(tokenizer: Any, length: int) -> str:
    """Its `tokenizer.json`, with the truncation and padding of this model."""
    from tokenizers import Tokenizer

    # A copy: the notebook's own is left as it is.
    copied = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copied.enable_truncation(length, direction=tokenizer.truncation_side)
    copied.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id or 0,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token or "",
    )
    return str(copied.to_str())
