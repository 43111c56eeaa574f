"""OpenAI's protocol as JSON; the engines' answers to its real client are in tests/engines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from aiaas_hub.adapters.translator.openai_wire import Answer, Chat, Completion, read
from aiaas_hub.schemas.errors import InvalidInput

END = {"text": "!", "finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 2}
USER = {"role": "user", "content": "é"}


def completion(**fields: Any) -> Completion:
    return read(Completion, json.dumps({"model": "m", "prompt": "a", **fields}).encode())


def chat(**fields: Any) -> Chat:
    return read(Chat, json.dumps({"model": "m", "messages": [USER], **fields}).encode())


def test_a_request_becomes_a_question() -> None:
    assert completion().question(9.0) == {
        "prompt": "a",
        "max_tokens": 16,
        "temperature": 1.0,
        "top_p": 1.0,
        "stop": [],
        "seed": None,
        "seconds": 9.0,
    }
    asked = completion(
        prompt=["b"], max_tokens=3, temperature=0, top_p=0, stop="x", seed=-1, user="ann"
    )
    assert asked.question(1.0) == {
        "prompt": "b",
        "max_tokens": 3,
        "temperature": 0.0,
        "top_p": 0.0,
        "stop": ["x"],
        "seed": 2**64 - 1,
        "seconds": 1.0,
    }
    parts = {"role": "system", "content": [{"type": "text", "text": t} for t in "ab"]}
    assert chat(messages=[parts, USER]).question(1.0)["messages"] == [
        {"role": "system", "content": "ab"},
        {"role": "user", "content": "é"},
    ]
    # In a chat the context is the limit, and the newer name counts.
    assert chat().question(1.0)["max_tokens"] is None
    assert chat(max_tokens=5, max_completion_tokens=7).question(1.0)["max_tokens"] == 7
    assert completion(stream=True, stream_options={"include_usage": True}).wants_usage
    # What asks for nothing may be there, as clients send all they know.
    nothing = {"n": 1, "presence_penalty": 0.0, "logprobs": None, "logit_bias": {}, "stop": None}
    assert completion(**nothing) == completion()
    assert chat(tools=[], tool_choice="auto", response_format={"type": "text"}) == chat()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "'prompt': Field required"),
        (b'{"prompt": 3}', "'prompt'"),
        (b'{"prompt": ["a", "b"]}', "'prompt'"),
        (b'{"prompt": "\\ud800"}', "not valid Unicode"),
        (b'{"prompt": "a", "logprobs": 0}', "'logprobs' is not supported"),
        (b'{"prompt": "a", "n": true}', "'n' is not supported"),
        (b'{"prompt": "a", "temperature": NaN}', "'temperature'"),
        (b'{"prompt": "a", "stop": [""]}', "'stop.0'"),
        (b'{"prompt": "a", "max_tokens": 1e99}', "'max_tokens'"),
        (b'{"prompt": "a", "seed": 1e400}', "'seed'"),
        (b'{"prompt": "a", "beam_width": 2}', "'beam_width': Extra inputs"),
    ],
)
def test_what_is_no_request(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(Completion, body)
    assert says in caught.value.message


def test_answers_and_their_chunks() -> None:
    whole = Answer("chat", is_chat=True).whole("hi!", END)
    assert whole["choices"][0]["message"]["content"] == "hi!"
    assert whole["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert whole["object"] == "chat.completion"

    def chunks(*, is_chat: bool) -> list[Mapping[str, Any]]:
        answer = Answer("chat", is_chat=is_chat)
        events = [{"text": ""}, {"text": "hi"}, END]
        told = [*answer.first(), *(c for event in events for c in answer.pieces(event))]
        return [{k: v for k, v in c["choices"][0].items() if k != "logprobs"} for c in told]

    # The silence between is nobody's business.
    assert chunks(is_chat=False) == [
        {"index": 0, "text": "hi", "finish_reason": None},
        {"index": 0, "text": "!", "finish_reason": "stop"},
    ]
    assert chunks(is_chat=True) == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        {"index": 0, "delta": {"content": "hi"}, "finish_reason": None},
        {"index": 0, "delta": {"content": "!"}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    assert Answer("chat", is_chat=False).last(END)["choices"] == []
