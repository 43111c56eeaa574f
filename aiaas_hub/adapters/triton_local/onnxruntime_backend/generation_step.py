"""What comes before and after a language model that goes on with a text, one token at a time.

It is declared in the metadata of the ONNX file, so that a version is one file and nothing in it
runs: `aiaas.tokenizer` is a `tokenizer.json` of Hugging Face's tokenizers, `aiaas.step` is JSON:

    {"input": "prompt",                        the tensor that holds the texts
     "generation": {
        "context": 1024,                       tokens of prompt and completion together
        "end_tokens": [2],                     after any of them nothing comes
        "held_out_tokens": 8,                  how far held-out prompts are gone on with
        "cache": [["past_key_values.0.key", "present.0.key"], …],
        "chat_template": "…" or null, "special_tokens": {"bos_token": "<s>", …}}}

The model takes `input_ids` `[rows, tokens]` after what `cache` holds of the tokens before them,
and answers with the `logits` of the next token, `[rows, vocabulary]`, and the longer cache.

It is imported by the backend and by the process that inspects a file before it is served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

# Beside this file where it serves.
from chat_template import ChatTemplate
from steps import STEP, tokenizer_of, tokenizer_text

COMPLETION = "completion"
_IDS, _LOGITS = "input_ids", "logits"
_MAX_CONTEXT = 32_768
_MAX_HELD_OUT = 64
_READ_AT_ONCE = 128
"""Tokens of a prompt: between two such runs the other callers have their turn."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class GenerationStep:
    """Raises `ValueError` for what is not as above, or does not fit the model's session."""

    kind = "prompt"

    def __init__(self, metadata: Mapping[str, str], session: Any) -> None:
        step = json.loads(metadata[STEP])
        self.tokenizer = tokenizer_of(tokenizer_text(metadata))
        declared = step["generation"]
        self.input = str(step["input"])
        self.context = int(declared["context"])
        self.held_out_tokens = int(declared["held_out_tokens"])
        self.end_tokens = frozenset(map(int, declared["end_tokens"]))
        if not 2 <= self.context <= _MAX_CONTEXT:
            raise ValueError(f"the model's context is not of 2 to {_MAX_CONTEXT:,} tokens")
        if not 1 <= self.held_out_tokens <= _MAX_HELD_OUT:
            raise ValueError(f"held-out prompts are not gone on with for up to {_MAX_HELD_OUT}")
        template = declared.get("chat_template")
        self.template = (
            None if template is None else ChatTemplate(template, declared["special_tokens"])
        )
        self.session = session
        self._fit(session, declared["cache"])

    def _fit(self, session: Any, cache: Sequence[Sequence[str]]) -> None:
        inputs = {tensor.name: tensor for tensor in session.get_inputs()}
        outputs = [tensor.name for tensor in session.get_outputs()]
        past = [str(before) for before, _ in cache]
        if sorted(inputs) != sorted([_IDS, *past]) or inputs[_IDS].type != "tensor(int64)":
            raise ValueError(f"the model takes {sorted(inputs)}, not {_IDS} and its cache")
        if outputs != [_LOGITS, *(str(after) for _, after in cache)]:
            raise ValueError("the model does not answer with logits and its cache")
        self.vocabulary = session.get_outputs()[0].shape[-1]
        if not isinstance(self.vocabulary, int):
            raise ValueError("the model has no fixed number of logits")
        self._past = past
        self._outputs = outputs
        self._empty: dict[str, Any] = {}
        for name in past:
            tensor = inputs[name]
            if tensor.type != "tensor(float)" or len(tensor.shape) != 4:
                raise ValueError(f"{name} is no cache of four dimensions")
            heads, width = tensor.shape[1], tensor.shape[3]
            if not isinstance(heads, int) or not isinstance(width, int):
                raise ValueError(f"{name} has no fixed number of heads")
            nothing = np.zeros((1, heads, 0, width), np.float32)
            self._empty[name] = ort.OrtValue.ortvalue_from_numpy(nothing)

    @property
    def cache_bytes(self) -> int:
        """Of one text, when it fills the context."""
        widths = (value.shape()[1] * value.shape()[3] for value in self._empty.values())
        return 4 * self.context * int(sum(widths))

    def tokens_of_prompt(self, prompt: str) -> list[int]:
        """Raises `ValueError` for a prompt that leaves no room for a completion, or is empty."""
        return self._checked(self.tokenizer.encode(prompt).ids)

    def tokens_of_messages(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The same of a conversation."""
        if self.template is None:
            raise ValueError(
                "the model has no chat template: ask for a completion of a prompt instead"
            )
        text = self.template.render(messages)
        # The template writes the special tokens itself.
        return self._checked(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _checked(self, tokens: list[int]) -> list[int]:
        if not tokens:
            raise ValueError("the prompt is empty")
        if max(tokens) >= self.vocabulary:
            raise ValueError("the prompt has a special token that the model was not trained with")
        if len(tokens) >= self.context:
            raise ValueError(
                f"the prompt has {len(tokens):,} tokens, and the model's context is of "
                f"{self.context:,} with the completion: send a shorter one"
            )
        return tokens

    def run(self, tokens: Sequence[int], past: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The logits after these tokens, `[vocabulary]`, and what to give as `past` with the next;
        `{}` before the first."""
        ids = np.array([tokens], np.int64)
        feed = {_IDS: ort.OrtValue.ortvalue_from_numpy(ids), **(past or self._empty)}
        # The cache stays where onnxruntime wrote it: as numpy's it would be copied at each token.
        logits, *cache = self.session.run_with_ort_values(self._outputs, feed)
        return logits.numpy()[0], dict(zip(self._past, cache, strict=True))

    def read(
        self, tokens: Sequence[int], past: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any], Sequence[int]]:
        """As `run`, for the first of these tokens; and those that are left to be read."""
        logits, cache = self.run(tokens[:_READ_AT_ONCE], past)
        return logits, cache, tokens[_READ_AT_ONCE:]

    def try_out(self) -> None:
        """Read and go on with a short text, and a conversation if there are any. Raises what is
        wrong with the model."""
        tokens = self.tokenizer.encode("A text.").ids or [0]
        logits, cache = self.run(tokens[: self.context - 1], {})
        if logits.shape != (self.vocabulary,):
            raise ValueError(f"the logits have the shape {list(logits.shape)}")
        self.run([int(logits.argmax())], cache)


class Detokenizer:
    """The text of tokens as they come, in pieces that are whole characters.

    A token of a byte-level tokenizer may be a part of a character; decoded alone it would be
    U+FFFD. So what ends with that waits for the next token. And a token decodes otherwise at the
    beginning of a text than after others, so the last tokens before it are decoded with it. (The
    method of vLLM's and TGI's servers; `DecodeStream` of tokenizers does it too, and has no end.)
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._decode = tokenizer.decode
        # Enough of them to have a whole character before.
        self._tokens = list(prompt[-6:])
        self._told = self._decode(self._tokens)
        """What the tokens decode to as far as it was given away."""

    def add(self, token: int) -> str:
        """What this token adds; "" while it may be a part of a character."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        if text.endswith(_REPLACEMENT):
            return ""
        return self._next(text)

    def end(self) -> str:
        """What is left, if no character came of it."""
        return self._next(self._decode(self._tokens))

    def _next(self, text: str) -> str:
        piece: str = text[len(self._told) :]
        if len(self._tokens) > 24:
            self._tokens = self._tokens[-6:]
            text = self._decode(self._tokens)
        self._told = text
        return piece


def choose(logits: Any, temperature: float, top_p: float, random: Any) -> int:
    """The next token: the likeliest at temperature 0, else by lot among the likeliest, as many as
    have `top_p` of the probability together (Holtzman et al., The Curious Case of Neural Text
    Degeneration, 2020)."""
    if temperature == 0:
        return int(logits.argmax())
    scores = logits.astype(np.float64) / temperature
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    if top_p < 1:
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        beyond = before >= top_p
        # One of them there is always.
        beyond[0] = False
        chances[order[beyond]] = 0
        chances /= chances.sum()
    return int(random.choice(len(chances), p=chances))


class Stops:
    """Text up to the first of some strings: what may be the beginning of one waits."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._waiting = ""

    def add(self, piece: str) -> tuple[str, bool]:
        """What may be told, and whether that was the end."""
        text = self._waiting + piece
        found = [place for place in map(text.find, self._stops) if place >= 0]
        if found:
            self._waiting = ""
            return text[: min(found)], True
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._waiting = text[len(text) - held :]
        return text[: len(text) - held], False

    def end(self) -> str:
        rest, self._waiting = self._waiting, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text begin the other."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
