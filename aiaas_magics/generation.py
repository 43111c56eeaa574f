"""Texts from an endpoint whose model generates: OpenAI's protocol, through the gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import AiaasError, InvalidInput, Unauthenticated, Unavailable

if TYPE_CHECKING:
    import httpx

    from aiaas_hub.schemas.endpoints import Endpoint
    from aiaas_magics.inference import Caller

Prompt = str | Sequence[Mapping[str, Any]]

_TIMEOUT_SECONDS = 60.0
"""Between two pieces; the gateway ends what takes longer than its endpoint allows."""
_DATA = "data: "
_DONE = "[DONE]"
_BAD_REQUEST = 400


class GeneratesText:
    """The part of an `Endpoint` for models that generate text."""

    def generate(self, prompt: Prompt, **options: Any) -> str:
        """How the model goes on with `prompt`: a text, or a conversation, `[{"role": "user",
        "content": "…"}, …]`, which becomes one by the model's chat template.

        `max_tokens`: 16 if it is not said, in a conversation as many as the model takes;
        `temperature`: 1, and at 0 the likeliest; `top_p`: 1; `stop`: a text or several at which it
        ends; `seed`: the same one draws the same lots. `version`: this one, whatever the traffic
        is. Raises `InvalidInput` for what the model does not take.
        """
        return "".join(self.stream(prompt, **options))

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        version: int | None = None,
    ) -> Generator[str, None, None]:
        """The same in pieces, as they come; see `generate`. Who stops taking them stops the
        model."""
        asked = {
            **_asked(prompt),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "stop": list(stop) if isinstance(stop, tuple) else stop,
            "seed": seed,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return _pieces(self._calls(), self._now(), given, version)

    def _calls(self) -> Caller:
        raise NotImplementedError

    def _now(self) -> Endpoint:
        raise NotImplementedError


def _asked(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"prompt": prompt}
    messages = list(prompt)
    if not messages or not all(isinstance(message, Mapping) for message in messages):
        raise InvalidInput(
            "This is neither a text nor a conversation.",
            remedy="Give a text, or messages: [{'role': 'user', 'content': 'Hello'}].",
        )
    return {"messages": [dict(message) for message in messages]}


def _pieces(
    caller: Caller, endpoint: Endpoint, asked: Mapping[str, Any], version: int | None
) -> Generator[str, None, None]:
    """What has begun is not asked for again."""
    import httpx

    from aiaas_magics.inference import PAUSES

    renewed, pauses = False, iter(PAUSES)
    while True:
        begun = False
        try:
            for piece in _events(caller, endpoint, asked, version):
                begun = True
                yield piece
            return
        except httpx.HTTPError as failure:
            error: AiaasError = Unavailable(
                f"Endpoint {endpoint.name} does not answer: {failure or type(failure).__name__}.",
                remedy="It may be restarting: try again in a moment.",
            )
        except (Unauthenticated, Unavailable) as refusal:
            error = refusal
        if isinstance(error, Unauthenticated) and not renewed:
            renewed = True
            caller.renew()
            continue
        pause = next(pauses, None)
        if begun or pause is None or isinstance(error, Unauthenticated):
            raise error
        time.sleep(pause)


def _events(
    caller: Caller, endpoint: Endpoint, asked: Mapping[str, Any], version: int | None
) -> Iterator[str]:
    import httpx

    from aiaas_magics.client.transport import trusted
    from aiaas_magics.inference import VERSION_HEADER

    what = "chat/completions" if "messages" in asked else "completions"
    with httpx.stream(
        "POST",
        f"{endpoint.url}/v1/{what}",
        json={"model": endpoint.name, "stream": True, **asked},
        headers=caller.headers(endpoint, version),
        timeout=httpx.Timeout(_TIMEOUT_SECONDS, connect=5.0),
        trust_env=False,
        verify=trusted(),
    ) as answer:
        if answer.status_code != httpx.codes.OK:
            answer.read()
            raise _refused(endpoint, answer)
        caller.last_version = int(answer.headers[VERSION_HEADER])
        for line in answer.iter_lines():
            told = line.removeprefix(_DATA)
            if not line.startswith(_DATA) or told == _DONE:
                continue
            event = json.loads(told)
            if "error" in event:
                raise Unavailable(event["error"]["message"], remedy="")
            for choice in event["choices"]:
                piece = choice["delta"].get("content") if "delta" in choice else choice["text"]
                if piece:
                    yield piece


def _refused(endpoint: Endpoint, answer: httpx.Response) -> AiaasError:
    from aiaas_magics.inference import refusal

    try:
        said = answer.json()["error"]
        message = str(said["message"] if isinstance(said, dict) else said)
    except (ValueError, KeyError, TypeError):
        message = answer.text
    if answer.status_code == _BAD_REQUEST:
        return InvalidInput(f"The model refused the prompt: {message}", remedy="")
    return refusal(endpoint, str(answer.status_code), message)
