"""Small language models for the tests, over bytes."""

from __future__ import annotations

from typing import Any

import torch

BOS, EOS = 256, 257
CYCLE = "é→🙂ab"
"""In UTF-8 no byte comes twice, so that each says which one is next."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' and not loop.first %}"
    "{{ raise_exception('the system speaks first') }}{% endif %}"
    "<{{ message.role }}>{{ message.content | trim }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer(chat_template: str | None = TEMPLATE) -> Any:
    """A fast tokenizer of transformers with a token for each byte, so that most characters beyond
    ASCII are several."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Its letters for bytes, in the order of the bytes.
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = {byte: chr(byte) for byte in printed}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    vocabulary = {letters[byte]: byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>", model_max_length=10**30
    )
    made.chat_template = chat_template
    return made


def random_model(kind: str, context: int = 128) -> Any:
    """A model of random weights that are large enough to have something to say."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    torch.manual_seed(0)
    model: Any
    if kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=258,
                n_positions=context,
                n_embd=32,
                n_layer=2,
                n_head=4,
                bos_token_id=BOS,
                eos_token_id=EOS,
            )
        )
    else:
        config, made = {
            "llama": (LlamaConfig, LlamaForCausalLM),
            "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        }[kind]
        model = made(
            config(
                vocab_size=258,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=context,
                bos_token_id=BOS,
                eos_token_id=EOS,
            )
        )
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def cyclic_model(text: str = CYCLE, context: int = 512, *, ends: bool = False) -> Any:
    """A Llama that goes on with `text` over and over, or to its end: each byte of it says which one
    is next."""
    model = random_model("llama", context)
    with torch.no_grad():
        for layer in model.model.layers:
            # What is left is the token's own embedding.
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.norm.weight.fill_(1)
        seen = model.model.embed_tokens.weight / model.model.embed_tokens.weight.norm(
            dim=1, keepdim=True
        )
        model.lm_head.weight.zero_()
        encoded = text.encode()
        assert len(set(encoded)) == len(encoded)
        following = [*encoded[1:], EOS if ends else encoded[0]]
        for byte, after in zip(encoded, following, strict=True):
            model.lm_head.weight[after] = 5 * seen[byte]
    return model
