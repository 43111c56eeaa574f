"""The recipe `causal-lm`: a model of the GPT family that learns to go on with texts, and whose
endpoint does so."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.causal_models import check_causal
from aiaas_magics.runtime.recipes import classes, pretrained
from aiaas_magics.runtime.recipes.descent import descend, prepare, say
from aiaas_magics.runtime.recipes.evaluation import Measure, Perplexity
from aiaas_magics.runtime.recipes.parameters import CausalLM
from aiaas_magics.runtime.recipes.rows import Indices, split

if TYPE_CHECKING:
    from aiaas_magics.runtime.context import Context

_PROMPTS = 8
"""Held-out texts on which publishing compares how the model goes on."""


def train(ctx: Context, parameters: CausalLM) -> None:
    frame = ctx.dataset().to_pandas()
    if parameters.text not in frame:
        raise classes.no_column(parameters.text, frame)
    texts = frame[parameters.text].dropna().astype(str).tolist()
    torch.manual_seed(parameters.seed)
    tokenizer, network = _network(parameters)
    # Texts are held out, not blocks: no text is on both sides.
    chosen, held = split(len(texts), parameters.eval_split, parameters.seed)
    end = _end(tokenizer, network)
    blocks = [
        pack([[*tokenizer(texts[row])["input_ids"], *end] for row in rows], parameters)
        for rows in (chosen, held)
    ]
    tokens = np.concatenate(blocks)
    training, held_out = np.split(np.arange(len(tokens)), [len(blocks[0])])
    prompts = beginnings([texts[row] for row in held], tokenizer, parameters.block // 2)
    if not prompts:
        raise InvalidInput(
            "The texts that are held out are all empty.",
            remedy="Leave empty texts out of the dataset.",
        )
    check_causal(network, tokenizer, prompts[:_PROMPTS])
    say(ctx, f"{len(texts)} texts in {len(tokens)} blocks of {parameters.block} tokens")
    if parameters.method == "lora":
        network = _with_lora(network, parameters)
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    say(ctx, f"{trained:,} of {sum(w.numel() for w in network.parameters()):,} weights are trained")
    model = prepare(ctx, network, parameters)
    task = Task(ctx, torch.from_numpy(tokens))
    descend(ctx, model, task, parameters, training, held_out)
    served = _merged(ctx.whole(model))
    ctx.save_model(served, prompts[:1], prompts[:_PROMPTS], tokenizer=tokenizer)


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


def beginnings(texts: list[str], tokenizer: Any, most: int) -> list[str]:
    """Of texts that are not empty, the first so many tokens each."""
    tokens = (tokenizer(text)["input_ids"][:most] for text in texts)
    found = (tokenizer.decode(each, skip_special_tokens=True) for each in tokens)
    return [text for text in found if text]


def _network(parameters: CausalLM) -> tuple[Any, Any]:
    """A fast tokenizer and the model over what it makes of texts, which knows how they end."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

    pretrained.quiet()
    if parameters.model is None:
        if parameters.width % parameters.heads:
            raise InvalidInput(
                f"A width of {parameters.width} does not divide among {parameters.heads} heads.",
                remedy="Use a multiple: --param width=….",
            )
        tokenizer = _bytes()
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=parameters.block,
            n_embd=parameters.width,
            n_layer=parameters.layers,
            n_head=parameters.heads,
            bos_token_id=None,
            eos_token_id=tokenizer("\n")["input_ids"][0],
        )
        return tokenizer, GPT2LMHeadModel(config)
    tokenizer, network = pretrained.load(
        parameters.model, AutoTokenizer.from_pretrained, AutoModelForCausalLM.from_pretrained
    )
    positions = getattr(network.config, "max_position_embeddings", None)
    if positions is not None and parameters.block > positions:
        raise InvalidInput(
            f"The model takes {positions} tokens, blocks have {parameters.block}.",
            remedy=f"Use --param block={positions}.",
        )
    return tokenizer, network


def _end(tokenizer: Any, network: Any) -> list[int]:
    """Of a text: the tokenizer's token for it, or the model's, where there is one."""
    token = tokenizer.eos_token_id
    if token is None:
        token = network.config.eos_token_id
    return [] if token is None else [int(token)]


def _bytes() -> Any:
    """A tokenizer whose tokens are the bytes of UTF-8."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({each: token for token, each in enumerate(alphabet)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    plain.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=plain)


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
