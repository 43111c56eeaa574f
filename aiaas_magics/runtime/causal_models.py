"""Causal language models with their tokenizer, as one ONNX file that an endpoint generates with.

The graph takes tokens and a cache of what was computed for those before them, so that each new
token costs one step. Tokenizer, chat template and the tokens that end a text go along in the file's
metadata: see `steps`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aiaas_hub.schemas.chat_template import ChatTemplate
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics.errors import invalid
from aiaas_magics.runtime.export import at_rest, to_onnx
from aiaas_magics.runtime.exported import FLOOR, TOLERANCE, ExportedModel, first_line, load
from aiaas_magics.runtime.steps import STEP, STRING, attach, keep
from aiaas_magics.runtime.text_models import TOKENIZER, parts_of, texts_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Cache = list[tuple[str, str]]

PROMPT, COMPLETION, LOGITS = "prompt", "completion", "logits"
_IDS = "input_ids"
_MAX_PROMPTS = 8
"""For the comparison: each is gone on with several times over."""
_HELD_OUT_TOKENS = 8
"""So many are compared of how the model goes on with each."""
_CONTEXT = 2048
"""Tokens, where nothing is said: the cache of each text on its way grows with them."""
_MAX_CONTEXT = 32_768
_MAX_WEIGHT_BYTES = 1900 << 20
"""One protobuf file holds 2 GiB."""
_BEFORE = 6
"""Tokens of the prompt that the served step decodes with those of the completion."""
_CONVERSATION = [
    {"role": "user", "content": "Hello <you>"},
    {"role": "assistant", "content": "  Hi "},
    {"role": "user", "content": 'What\'s "new"?\nSay it.'},
]


def check_causal(model: Any, tokenizer: Any, prompts: Sequence[str]) -> None:
    """Before a model is trained for hours: raise `InvalidInput` now for what `export_causal` would
    refuse of it then, as far as it can be known."""
    model, tokenizer = parts_of(model, tokenizer)
    context, plain = _context(model, tokenizer, None), _plain(tokenizer)
    for prompt in texts_of(prompts):
        _tokens(tokenizer, plain, prompt, context)
    _template(tokenizer)
    _check_size(model)


def export_causal(
    model: Any,
    example_input: Any,
    eval_input: Any = None,
    *,
    tokenizer: Any = None,
    max_length: int | None = None,
    directory: Path,
) -> ExportedModel:
    """Export a causal language model of transformers as a model that takes prompts.

    A text-generation pipeline brings its tokenizer. `max_length`: tokens of prompt and completion
    together; 2,048, or what the model takes if that is less. What the exported model says is
    compared with the model's: its logits after each held-out prompt, and the tokens that
    `model.generate(do_sample=False)` goes on with.

    Raises `InvalidInput` for a tokenizer without `tokenizer.json`, a chat template that needs more
    than an endpoint gives to it, or a model whose cache is another than keys and values.
    """
    import torch

    model, tokenizer = parts_of(model, tokenizer)
    context = _context(model, tokenizer, max_length)
    prompts = texts_of(example_input if eval_input is None else eval_input)[:_MAX_PROMPTS]
    plain = _plain(tokenizer)
    tokens = [_tokens(tokenizer, plain, prompt, context) for prompt in prompts]
    ends = _end_tokens(model, tokenizer)
    onnx_path = directory / "model.onnx"
    with at_rest(_in_float32(model)) as module, torch.no_grad():
        cache = _export(module, onnx_path)
        session = load(onnx_path, [LOGITS, *(after for _, after in cache)])
        logits, made, worst = _compared(module, _Exported(session, cache), tokens, ends, context)
    generation = {
        "context": context,
        "end_tokens": ends,
        "held_out_tokens": _HELD_OUT_TOKENS,
        "cache": cache,
        **_template(tokenizer),
    }
    step = json.dumps({"input": PROMPT, "generation": generation})
    attach(onnx_path, {STEP: step, TOKENIZER: plain.to_str()})
    completions = [_said(plain, *pair) for pair in zip(tokens, made, strict=True)]
    evaluation_path = onnx_path.with_name("evaluation.safetensors")
    keep(evaluation_path, PROMPT, prompts, {LOGITS: logits}, {COMPLETION: completions})
    try:
        signature = Signature(
            inputs=[TensorSpec.model_validate({"name": PROMPT, "kind": PROMPT, **STRING})],
            outputs=[
                TensorSpec(name=LOGITS, dtype="float32", shape=[logits.shape[1]]),
                TensorSpec.model_validate({"name": COMPLETION, "kind": COMPLETION, **STRING}),
            ],
        )
    except ValidationError as error:
        raise invalid(error) from error
    framework = f"torch {torch.__version__.split('+')[0]}"
    return ExportedModel(onnx_path, evaluation_path, signature, worst, framework)


def _context(model: Any, tokenizer: Any, max_length: int | None) -> int:
    """Tokens that both take. A layer that looks at the last few thousand of them only is the same
    as any other below that number, and beyond it the exported graph would not be."""
    config = model.config.get_text_config()
    windows = [getattr(config, "attention_chunk_size", None)]
    if getattr(config, "use_sliding_window", True):
        windows.append(getattr(config, "sliding_window", None))
    positions = getattr(config, "max_position_embeddings", None)
    said = [positions, tokenizer.model_max_length, *windows]
    # Where a tokenizer knows of no limit, it says a number of thirty digits.
    most = min([_MAX_CONTEXT, *(int(one) for one in said if one and 0 < one <= 1 << 20)])
    if max_length is None:
        return min(most, _CONTEXT)
    if not 2 <= max_length <= most:
        raise InvalidInput(
            f"The model takes up to {most:,} tokens, and max_length is {max_length:,}.",
            remedy=f"Give 2 to {most:,}.",
        )
    return max_length


def _plain(tokenizer: Any) -> Any:
    """Its `tokenizer.json` without truncation and padding. A copy: the notebook's own is left as
    it is."""
    from tokenizers import Tokenizer

    copied = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied


def _tokens(tokenizer: Any, plain: Any, prompt: str, context: int) -> list[int]:
    tokens = list(tokenizer(prompt)["input_ids"])
    if tokens != plain.encode(prompt).ids:
        raise InvalidInput(
            "The tokenizer makes other tokens than its tokenizer.json, which serves.",
            remedy="Give it as transformers.AutoTokenizer.from_pretrained(…) loads it.",
        )
    if not 0 < len(tokens) < context:
        raise InvalidInput(
            f"The prompt {prompt[:40]!r} has {len(tokens):,} tokens, and the model's context is "
            f"of {context:,} with the completion.",
            remedy="Give prompts that are neither empty nor as long as that.",
        )
    return tokens


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """All that any of them says: a chat model's turn ends otherwise than its text."""
    found: set[int] = set()
    for one in (
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        model.config.get_text_config().eos_token_id,
        tokenizer.eos_token_id,
    ):
        if one is not None:
            found |= set(one) if isinstance(one, list | tuple) else {one}
    return sorted(map(int, found))


def _template(tokenizer: Any) -> dict[str, Any]:
    """The chat template, if there is one that renders here as transformers renders it."""
    source = tokenizer.chat_template
    if isinstance(source, Mapping):
        source = source.get("default")
    special = {
        name: str(token)
        for name, token in tokenizer.special_tokens_map.items()
        if isinstance(token, str)
    }
    if source is not None:
        for messages in (_CONVERSATION[:1], _CONVERSATION):
            _same_rendering(tokenizer, source, special, messages)
    return {"chat_template": source, "special_tokens": special}


def _same_rendering(
    tokenizer: Any, source: str, special: Mapping[str, str], messages: list[dict[str, str]]
) -> None:
    try:
        expected = tokenizer.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=True
        )
    except Exception:  # what it refuses there it may refuse here
        return
    try:
        rendered = ChatTemplate(source, special).render(messages)
    except ValueError as error:
        raise InvalidInput(
            f"The tokenizer's chat template does not render: {first_line(error)}",
            remedy="Give the tokenizer a simpler one: tokenizer.chat_template = '…', or None.",
        ) from error
    if rendered != expected:
        raise InvalidInput(
            "The tokenizer's chat template renders otherwise than transformers renders it.",
            remedy="Give the tokenizer a simpler one: tokenizer.chat_template = '…', or None.",
        )


def _check_size(model: Any) -> None:
    """Raises `InvalidInput` for one that is too large for a file."""
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > _MAX_WEIGHT_BYTES:
        raise InvalidInput(
            f"The model has {size / 2**30:.1f} GiB of weights, and the one ONNX file that is "
            "served holds less than 2.",
            remedy="Give a model of at most 450 million weights.",
        )


def _in_float32(model: Any) -> Any:
    """The model, or a copy of one that computes in fewer bits."""
    import torch

    _check_size(model)
    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        return model
    return copy.deepcopy(model).float()


def _export(module: Any, onnx_path: Path) -> Cache:
    """Names of the cache's tensors, before and after."""
    import torch

    answer = module(torch.tensor([[0, 1]]), use_cache=True)
    layers = getattr(getattr(answer, "past_key_values", None), "layers", None)
    shapes: list[Sequence[int]] = [
        tuple(getattr(getattr(layer, "keys", None), "shape", ())) for layer in layers or [None]
    ]
    if any(len(shape) != 4 for shape in shapes):
        raise InvalidInput(
            f"A {type(module).__name__} keeps another cache than keys and values.",
            remedy="Give a transformer, such as GPT-2, Llama or Qwen2.",
        )
    cache = [
        (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}")
        for layer in range(len(shapes))
        for part in ("key", "value")
    ]
    past = [torch.zeros(2, shape[1], 3, shape[3]) for shape in shapes for _ in range(2)]
    ids = torch.zeros((2, 5), dtype=torch.int64)
    batch, free = torch.export.Dim("batch", min=1), torch.export.Dim.DYNAMIC
    shapes_of_past = [{0: batch, 2: free}] * len(past)
    to_onnx(
        _cached(module),
        onnx_path,
        args=(ids, past),
        dynamic_shapes=({0: batch, 1: free}, shapes_of_past),
        input_names=[_IDS, *(before for before, _ in cache)],
        output_names=[LOGITS, *(after for _, after in cache)],
    )
    return cache


def _cached(model: Any) -> Any:
    """A module over tensors alone: tokens and a cache of those before them → logits of the next
    token, `[rows, vocabulary]`, and the longer cache."""
    from torch import nn
    from transformers import DynamicCache

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, past: list[torch.Tensor]) -> Any:
            cache = DynamicCache()
            for layer, (key, value) in enumerate(zip(past[::2], past[1::2], strict=True)):
                cache.update(key, value, layer)
            answer = self.model(
                input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            after = [
                part
                for layer in answer.past_key_values.layers
                for part in (layer.keys, layer.values)
            ]
            return (answer.logits[:, -1], *after)

    return Cached()


class _Exported:
    """The exported model, as it is served."""

    def __init__(self, session: Any, cache: Cache) -> None:
        self._session = session
        self._names = [before for before, _ in cache]
        self._shapes = {tensor.name: tensor.shape for tensor in session.get_inputs()}

    def __call__(self, tokens: Sequence[int], past: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """Logits `[vocabulary]` and the longer cache; `past` is empty at first."""
        import numpy as np

        if not past:
            shapes = (self._shapes[name] for name in self._names)
            past = [np.zeros((1, shape[1], 0, shape[3]), np.float32) for shape in shapes]
        feed = {_IDS: np.array([tokens], np.int64), **dict(zip(self._names, past, strict=True))}
        logits, *cache = self._session.run(None, feed)
        return logits[0], cache


def _compared(
    module: Any, exported: _Exported, prompts: list[list[int]], ends: list[int], context: int
) -> tuple[NDArray[np.float32], list[list[int]], float]:
    """The source model's logits after each prompt and how it goes on, and the largest difference
    that was seen."""
    import numpy as np
    import torch

    rows, made, worst = [], [], 0.0
    for prompt in prompts:
        expected = module(torch.tensor([prompt])).logits[0, -1].numpy()
        # In two parts, as a longer prompt is read.
        half = len(prompt) // 2
        past: Sequence[Any] = exported(prompt[:half], ())[1] if half else ()
        logits, past = exported(prompt[half:], past)
        worst = max(worst, _difference(expected, logits))
        said = _generated(module, prompt, ends, min(_HELD_OUT_TOKENS, context - len(prompt)))
        for token in said:
            if int(logits.argmax()) != token:
                raise InvalidInput(
                    "The exported model goes on otherwise than the model's generate() does.",
                    remedy="Look for random operations in forward; if two tokens are equally "
                    "likely there, give other prompts.",
                )
            logits, past = exported([token], past)
        rows.append(expected)
        made.append([token for token in said if token not in ends])
    return np.stack(rows), made, worst


def _difference(expected: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    import numpy as np

    largest = float(np.abs(expected - logits).max())
    scale = float(np.abs(expected).max())
    if not largest <= TOLERANCE * scale + FLOOR:
        raise InvalidInput(
            f"The exported model answers differently: its logits are off by {largest:.2g} where "
            f"values reach {scale:.2g}.",
            remedy="Look for random or data-dependent operations in forward.",
        )
    return largest


def _generated(module: Any, prompt: list[int], ends: list[int], most: int) -> list[int]:
    """The likeliest tokens after the prompt, the one that ends them included. What else a model's
    generation_config says, as a penalty for repetition, an endpoint does not do."""
    import torch
    from transformers import GenerationConfig

    tokens = torch.tensor([prompt])
    plainly = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=most,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
        repetition_penalty=1.0,
    )
    kept, module.generation_config = module.generation_config, plainly
    try:
        made = module.generate(tokens, attention_mask=torch.ones_like(tokens))
    finally:
        module.generation_config = kept
    return [int(token) for token in made[0, len(prompt) :]]


def _said(plain: Any, prompt: list[int], made: list[int]) -> str:
    """The completion's text, as it continues the prompt's."""
    before = prompt[-_BEFORE:]
    return str(plain.decode([*before, *made])[len(plain.decode(before)) :])
