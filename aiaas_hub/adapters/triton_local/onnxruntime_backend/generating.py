"""Goes on with the texts of several callers at a time, a token of each in turn.

Triton's decoupled mode: a request is taken at once and answered as its pieces come, from one
thread of this process, so that nobody waits until somebody else's text has ended. In a request is
JSON, and in each answer too:

    {"prompt": "…" or "messages": [{"role": "…", "content": "…"}, …],
     "max_tokens": 16 or null, "temperature": 1.0, "top_p": 1.0, "stop": ["…"],
     "seed": 7 or null, "seconds": 60.0}

    {"text": "…"}                                      a piece; "" every few seconds, and at the end
    {"text": "…", "finish_reason": "stop" or "length", "prompt_tokens": 5, "completion_tokens": 16}

A request with a tensor of prompts instead is one of the platform's own, of held-out rows: it is
answered once, with the logits of the next token and the likeliest tokens after each.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from generation_step import COMPLETION, Detokenizer, GenerationStep, Stops, choose

MAX_ACTIVE = 8
"""Texts that are gone on with in turn: each has a cache. Others wait until one of them ends."""
MAX_WAITING = 256
REASSURE_SECONDS = 5
"""Of silence less than four times as long nobody need think that it is for ever."""
REQUEST, EVENT = "request", "event"


class Busy(Exception):
    """More wait than may."""

    code = "UNAVAILABLE"
    """Of Triton's errors."""


class Text:
    """One text on its way. `advance` runs the model once; `told` gets what comes of it."""

    def __init__(
        self,
        step: GenerationStep,
        tokens: Sequence[int],
        told: Callable[[Mapping[str, Any]], None],
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
        seconds: float | None = None,
        read: Callable[[Any], None] = lambda logits: None,
    ) -> None:
        """`read` gets the logits after the prompt, once. Raises `ValueError` where prompt and
        completion do not fit into the context together."""
        room = step.context - len(tokens)
        if max_tokens is not None and max_tokens > room:
            raise ValueError(
                f"the prompt has {len(tokens):,} tokens and max_tokens is {max_tokens:,}, and the "
                f"model's context is of {step.context:,}: ask for at most {room:,}"
            )
        self._step = step
        self._unread: Sequence[int] = tokens
        self._prompt_tokens = len(tokens)
        self._told = told
        self._left = room if max_tokens is None else max_tokens
        self._made = 0
        self._temperature, self._top_p = temperature, top_p
        self._random = np.random.default_rng(seed)
        self._stops = Stops(stop)
        self._detokenizer = Detokenizer(step.tokenizer, tokens)
        self._ends_at = None if seconds is None else time.monotonic() + seconds
        self._read: Callable[[Any], None] | None = read
        self._cache: dict[str, Any] = {}

    def advance(self) -> bool:
        """Whether there is more to come."""
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            if not self._made:
                raise Busy("there was no time for a first token: try again in a moment")
            return self._end("length", self._detokenizer.end())
        logits, self._cache, self._unread = self._step.read(self._unread, self._cache)
        if self._unread:
            return True
        if self._read is not None:
            self._read(logits)
            self._read = None
        token = choose(logits, self._temperature, self._top_p, self._random)
        self._made += 1
        if token in self._step.end_tokens:
            return self._end("stop", self._detokenizer.end())
        self._unread = [token]
        text, stopped = self._stops.add(self._detokenizer.add(token))
        if stopped:
            return self._tell(text, "stop")
        if self._made >= self._left:
            return self._end("length", self._detokenizer.end(), text)
        if text:
            self._told({"text": text})
        return True

    def reassure(self) -> None:
        """From another thread: it is on its way."""
        self._told({"text": ""})

    def _end(self, reason: str, rest: str, before: str = "") -> bool:
        text, stopped = self._stops.add(rest)
        if not stopped:
            text += self._stops.end()
        return self._tell(before + text, "stop" if stopped else reason)

    def _tell(self, text: str, reason: str) -> bool:
        self._told(
            {
                "text": text,
                "finish_reason": reason,
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": self._made,
            }
        )
        return False


class Line:
    """Whose turn it is: one thread that advances each of the active texts by one run in turn.

    A second one lets who waits know that there is still somebody who works: of a process that has
    died Triton tells those nothing whose answer had begun.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Place] = deque()
        self._active: deque[_Place] = deque()
        self._first: deque[_Place] = deque()
        self._changed = threading.Condition()
        self._is_closed = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__, daemon=True)
            for work in (self._generate, self._reassure)
        ]
        for thread in self._threads:
            thread.start()

    def add(
        self,
        text: Text,
        is_wanted: Callable[[], bool],
        failed: Callable[[Exception], None],
        *,
        first: bool = False,
    ) -> None:
        """`is_wanted` is asked before each run; a text that is not is given up. `first`: it waits
        for nobody. Raises `Busy`."""
        with self._changed:
            if not first and len(self._waiting) >= MAX_WAITING:
                raise Busy("too many texts wait for this model: try again in a moment")
            (self._first if first else self._waiting).append(_Place(text, is_wanted, failed))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_closed.set()
            self._changed.notify()
        for thread in self._threads:
            thread.join()

    def _generate(self) -> None:
        while (turns := self._next()) is not None:
            place = turns[0]
            try:
                goes_on = place.is_wanted() and place.text.advance()
            except Exception as error:  # one text's failure is no other's
                goes_on = False
                # Who cannot be told either must not end the others' texts.
                with suppress(Exception):
                    place.failed(error)
            with self._changed:
                # Its cache is freed before the next one's is made.
                turns.popleft()
                if goes_on:
                    turns.append(place)
            del place

    def _next(self) -> deque[_Place] | None:
        """Those whose first has its turn now."""
        with self._changed:
            while not (self._first or self._active or self._waiting or self._is_closed.is_set()):
                self._changed.wait()
            if self._is_closed.is_set():
                return None
            while self._waiting and len(self._active) < MAX_ACTIVE:
                self._active.append(self._waiting.popleft())
            return self._first or self._active

    def _reassure(self) -> None:
        while not self._is_closed.wait(REASSURE_SECONDS):
            with self._changed:
                places = [*self._active, *self._waiting]
            for place in places:
                with suppress(Exception):
                    place.text.reassure()


class _Place(NamedTuple):
    text: Text
    is_wanted: Callable[[], bool]
    failed: Callable[[Exception], None]


def asked(step: GenerationStep, request: Mapping[str, Any], told: Any) -> Text:
    """The text that a request of JSON asks for. Raises `ValueError`."""
    messages = request.get("messages")
    tokens = (
        step.tokens_of_messages(messages)
        if messages is not None
        else step.tokens_of_prompt(request["prompt"])
    )
    options = {
        name: request[name]
        for name in ("max_tokens", "temperature", "top_p", "stop", "seed", "seconds")
        if request.get(name) is not None
    }
    return Text(step, tokens, told, **options)


class HeldOut:
    """The answer to prompts `[rows, 1]`, when the last of them has one."""

    def __init__(self, step: GenerationStep, prompts: Sequence[str], done: Any) -> None:
        """`done` gets the outputs by name. Raises `ValueError` as `Text`."""
        self._logits = np.zeros((len(prompts), step.vocabulary), np.float32)
        self._completions = [""] * len(prompts)
        self._left = len(prompts)
        self._done = done
        self.texts = [self._text(step, row, prompt) for row, prompt in enumerate(prompts)]

    def _text(self, step: GenerationStep, row: int, prompt: str) -> Text:
        def told(event: Mapping[str, Any]) -> None:
            self._completions[row] += event["text"]
            if "finish_reason" in event:
                self._left -= 1
                if self._left == 0:
                    self._done(self._outputs())

        def read(logits: Any) -> None:
            self._logits[row] = logits

        tokens = step.tokens_of_prompt(prompt)
        most = min(step.held_out_tokens, step.context - len(tokens))
        return Text(step, tokens, told, max_tokens=most, read=read)

    def _outputs(self) -> dict[str, Any]:
        column = np.empty((len(self._completions), 1), np.object_)
        column[:, 0] = [text.encode() for text in self._completions]
        return {"logits": self._logits, COMPLETION: column}


class Generation:
    """Requests of Triton's, answered through their senders. `bridge`: what of the python backend
    it takes, made in `model.py`."""

    def __init__(self, step: GenerationStep, bridge: Any) -> None:
        self._step = step
        self._bridge = bridge
        self._line = Line()

    def accept(self, request: Any) -> None:
        """Returns before it is answered."""
        sender = self._bridge.sender(request)
        try:
            question = self._bridge.strings(request, REQUEST)
            if question is None:
                self._held_out(request, sender)
            else:
                self._generate(json.loads(question[0]), sender)
        except Exception as error:  # the request's own
            sender.fail(error)

    def _generate(self, question: Mapping[str, Any], sender: Any) -> None:
        def told(event: Mapping[str, Any]) -> None:
            sender.send({EVENT: _string(json.dumps(event))}, last="finish_reason" in event)

        text = asked(self._step, question, told)
        self._line.add(text, sender.is_wanted, sender.fail)

    def _held_out(self, request: Any, sender: Any) -> None:
        prompts = self._bridge.strings(request, self._step.input)
        if prompts is None:
            raise ValueError(f"there is neither {self._step.input} nor {REQUEST}")
        rows = HeldOut(self._step, prompts, lambda outputs: sender.send(outputs, last=True))
        # The platform asks whether the model is alive, and starts it anew where it hears nothing:
        # that callers wait for each other's texts must not look like that.
        for text in rows.texts:
            self._line.add(text, sender.is_wanted, sender.fail, first=True)

    def close(self) -> None:
        self._line.close()


def _string(text: str) -> Any:
    column = np.empty((1, 1), np.object_)
    column[0, 0] = text.encode()
    return column
