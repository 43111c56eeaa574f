"""The recipe `causal-lm`: a model of the GPT family that learns to go on with texts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.recipes import classes, pretrained
from aiaas_magics.runtime.recipes.descent import descend, prepare, say
from aiaas_magics.runtime.recipes.evaluation import Measure, Perplexity
from aiaas_magics.runtime.recipes.parameters import CausalLM
from aiaas_magics.runtime.recipes.rows import Indices, split

if TYPE_CHECKING:
    from aiaas_magics.runtime.context import Context

_BYTES = 256
_SERVED_ROWS = 8


def train(ctx: Context, parameters: CausalLM) -> None:
    frame = ctx.dataset().to_pandas()
    if parameters.text not in frame:
        raise classes.no_column(parameters.text, frame)
    texts = frame[parameters.text].dropna().astype(str).tolist()
    torch.manual_seed(parameters.seed)
    tokenizer, network = _network(parameters)
    # Texts are held out, not blocks: no text is on both sides.
    chosen, held = split(len(texts), parameters.eval_split, parameters.seed)
    blocks = [pack([tokenizer(texts[row]) for row in rows], parameters) for rows in (chosen, held)]
    tokens = np.concatenate(blocks)
    training, held_out = np.split(np.arange(len(tokens)), [len(blocks[0])])
    say(ctx, f"{len(texts)} texts in {len(tokens)} blocks of {parameters.block} tokens")
    if parameters.method == "lora":
        network = _with_lora(network, parameters)
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    say(ctx, f"{trained:,} of {sum(w.numel() for w in network.parameters()):,} weights are trained")
    model = prepare(ctx, network, parameters)
    task = Task(ctx, torch.from_numpy(tokens))
    descend(ctx, model, task, parameters, training, held_out)
    served = NextToken(_merged(ctx.whole(model)))
    rows = torch.from_numpy(tokens[held_out[:_SERVED_ROWS]])
    # Of another length than the rows: so the export knows that it is free.
    ctx.save_model(served, rows[:2, : parameters.block // 2], rows)


def pack(texts: list[list[int]], parameters: CausalLM) -> NDArray[np.int64]:
    """Token ids of texts, one after the other, cut into blocks: (blocks, tokens of a block).

    The rest that fills no block is left out. Raises `InvalidInput` if nothing fills one.
    """
    tokens = np.fromiter((token for text in texts for token in text), np.int64)
    count = len(tokens) // parameters.block
    if count == 0:
        raise InvalidInput(
            f"{len(texts)} texts of the dataset have {len(tokens)} tokens, fewer than one block "
            f"of {parameters.block}.",
            remedy="Use smaller ones: --param block=….",
        )
    return tokens[: count * parameters.block].reshape(count, parameters.block)


def _network(parameters: CausalLM) -> tuple[Any, nn.Module]:
    """What turns a text into token ids, with an end, and the model over them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

    pretrained.quiet()
    if parameters.model is None:
        if parameters.width % parameters.heads:
            raise InvalidInput(
                f"A width of {parameters.width} does not divide among {parameters.heads} heads.",
                remedy="Use a multiple: --param width=….",
            )
        config = GPT2Config(
            vocab_size=_BYTES,
            n_positions=parameters.block,
            n_embd=parameters.width,
            n_layer=parameters.layers,
            n_head=parameters.heads,
            bos_token_id=None,
            eos_token_id=None,
        )
        return lambda text: [*text.encode(), ord("\n")], GPT2LMHeadModel(config)
    tokenizer, network = pretrained.load(
        parameters.model, AutoTokenizer.from_pretrained, AutoModelForCausalLM.from_pretrained
    )
    positions = getattr(network.config, "max_position_embeddings", None)
    if positions is not None and parameters.block > positions:
        raise InvalidInput(
            f"The model takes {positions} tokens, blocks have {parameters.block}.",
            remedy=f"Use --param block={positions}.",
        )
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return lambda text: [*tokenizer(text)["input_ids"], *end], network


def _with_lora(network: nn.Module, parameters: CausalLM) -> nn.Module:
    """Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021)."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    config = LoraConfig(
        r=parameters.lora_rank,
        lora_alpha=parameters.lora_alpha,
        target_modules="all-linear",
        # GPT-2's linear layers hold their weights transposed.
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in network.modules()),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 by a name that is deprecated; harmless, and not the user's.
        warnings.simplefilter("ignore", FutureWarning)
        adapted: nn.Module = get_peft_model(network, config)
    return adapted


def _merged(network: nn.Module) -> nn.Module:
    """Small matrices added to the weights that they stand beside: a model as it was before."""
    merge = getattr(network, "merge_and_unload", None)
    if merge is None or any(weight.is_meta for weight in network.parameters()):
        return network
    merged: nn.Module = merge()
    return merged


class NextToken(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """input_ids int64 (rows, tokens) → logits float (rows, vocabulary)"""
        output = self.network(input_ids=input_ids, use_cache=False, logits_to_keep=1)
        last: torch.Tensor = output.logits[:, -1]
        return last


class Task:
    """What `descend` asks."""

    def __init__(self, ctx: Context, tokens: torch.Tensor) -> None:
        self._device = ctx.device
        self._tokens = tokens

    def loss(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        tokens = self._tokens[rows].to(self._device)
        logits = model(input_ids=tokens, use_cache=False).logits
        return nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()
        )

    def measure(self) -> Measure:
        return Perplexity()

    def evaluate(
        self, model: nn.Module, rows: Indices, counted: torch.Tensor, measure: Measure
    ) -> None:
        tokens = self._tokens[rows]
        logits = model(input_ids=tokens.to(self._device), use_cache=False).logits
        measure.add(logits, tokens, counted)
