"""Requests and answers of OpenAI's completions and chat completions.

Protocol: https://platform.openai.com/docs/api-reference/completions and …/chat. What would change
an answer and cannot be done here is refused, and what changes none is let through.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from aiaas_hub.schemas.errors import InvalidInput

DEFAULT_TOKENS = 16
"""Of a completion that says no `max_tokens`, as OpenAI has it; a chat may fill the context."""
_MAX_TOKENS = 32_768
_MAX_MESSAGES = 1000

_IGNORED = {
    *("user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"),
    "parallel_tool_calls",
}
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
}
"""Fields with the values that ask for nothing."""

Stop = Annotated[str, Field(min_length=1, max_length=200)]


class _StreamOptions(BaseModel):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(default="", max_length=1000)
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: list[Stop] = Field(default=[], max_length=16)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else ([] if given is None else given)

    @property
    def wants_usage(self) -> bool:
        """Of a stream, which has none by itself."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, seconds: float) -> dict[str, Any]:
        """As the backend's `generating` has it."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "stop": self.stop,
            "seed": None if self.seed is None else self.seed % 2**64,
            "seconds": seconds,
        }


class Completion(_Request):
    prompt: str

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, given: Any) -> Any:
        return given[0] if isinstance(given, list) and len(given) == 1 else given

    def question(self, seconds: float) -> dict[str, Any]:
        asked = {"prompt": self.prompt, **self.sampling(seconds)}
        return asked | {"max_tokens": self.max_tokens or DEFAULT_TOKENS}


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: list[_Part]

    @field_validator("content", mode="before")
    @classmethod
    def _parts(cls, given: Any) -> Any:
        return [{"type": "text", "text": given}] if isinstance(given, str) else given

    def plain(self) -> dict[str, str]:
        return {"role": self.role, "content": "".join(part.text for part in self.content)}


class Chat(_Request):
    messages: list[_Message] = Field(min_length=1, max_length=_MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    """What `max_tokens` is called now."""

    def question(self, seconds: float) -> dict[str, Any]:
        asked = {"messages": [one.plain() for one in self.messages], **self.sampling(seconds)}
        return asked | {"max_tokens": self.max_completion_tokens or self.max_tokens}


Asked = TypeVar("Asked", Completion, Chat)


def read(kind: type[Asked], body: bytes) -> Asked:
    """Raises `InvalidInput` for what is no such request, or asks for what is not there."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body is not JSON.", remedy="") from error
    if not isinstance(given, dict):
        raise InvalidInput("The body is not a JSON object.", remedy="")
    asked = {}
    for name, value in given.items():
        if name in _ONLY:
            if not any(_is_same(value, one) for one in _ONLY[name]):
                raise InvalidInput(f"'{name}' is not supported here.", remedy="Leave it out.")
        elif name not in _IGNORED:
            asked[name] = value
    try:
        made = kind.model_validate(asked)
        # Half of a surrogate pair is in JSON and in no text.
        json.dumps(made.question(1.0), ensure_ascii=False).encode()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"'{place}': {first['msg']}.", remedy="") from error
    except UnicodeEncodeError as error:
        raise InvalidInput("The text is not valid Unicode.", remedy="") from error
    return made


def _is_same(value: Any, one: Any) -> bool:
    """To Python false is 0, and to a caller it is not."""
    return bool(value == one) and isinstance(value, bool) == isinstance(one, bool)


class Answer:
    """The objects of one answer: whole, or in chunks."""

    def __init__(self, model: str, *, is_chat: bool) -> None:
        self._is_chat = is_chat
        prefix = "chatcmpl" if is_chat else "cmpl"
        self._head = {
            "id": f"{prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, text: str, end: Mapping[str, Any]) -> dict[str, Any]:
        """`end`: the last piece, with the reason and the counts."""
        said: dict[str, Any] = {"text": text}
        if self._is_chat:
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        name = "chat.completion" if self._is_chat else "text_completion"
        return self._object(name, [self._choice(said, end["finish_reason"])]) | usage(end)

    def first(self) -> list[dict[str, Any]]:
        """What a stream begins with, before there is any text."""
        if not self._is_chat:
            return []
        return [self._chunk({"delta": {"role": "assistant", "content": ""}}, None)]

    def pieces(self, piece: Mapping[str, Any]) -> list[dict[str, Any]]:
        reason = piece.get("finish_reason")
        if not self._is_chat:
            is_silent = not piece["text"] and reason is None
            return [] if is_silent else [self._chunk({"text": piece["text"]}, reason)]
        told = [self._chunk({"delta": {"content": piece["text"]}}, None)] if piece["text"] else []
        return told + ([] if reason is None else [self._chunk({"delta": {}}, reason)])

    def last(self, end: Mapping[str, Any]) -> dict[str, Any]:
        """The counts, for who wants them at the end of a stream."""
        return self._object(self._chunk_name, []) | usage(end)

    def _chunk(self, said: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        return self._object(self._chunk_name, [self._choice(said, reason)])

    @property
    def _chunk_name(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"

    def _choice(self, said: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}

    def _object(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": name, "choices": choices}


def usage(end: Mapping[str, Any]) -> dict[str, Any]:
    before, made = end["prompt_tokens"], end["completion_tokens"]
    counts = {"prompt_tokens": before, "completion_tokens": made, "total_tokens": before + made}
    return {"usage": counts}


def model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "aiaas"}


def error(status: int, message: str) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
