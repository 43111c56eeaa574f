"""OpenAI's completions and chat completions, whole or as server-sent events; see `openai_wire` for
their JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import aiohttp
from aiohttp import web

from aiaas_hub.adapters.translator import openai_wire
from aiaas_hub.adapters.translator.openai_wire import Answer, Chat, Completion
from aiaas_hub.adapters.translator.predictions import name_of
from aiaas_hub.adapters.translator.triton import Refused, Triton
from aiaas_hub.gateway.names import SECONDS_HEADER
from aiaas_hub.schemas.endpoints import MAX_SECONDS

log = logging.getLogger(__name__)


class Completions:
    def __init__(self, triton: Triton) -> None:
        self._triton = triton

    async def complete(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, Completion)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, Chat)

    async def models(self, request: web.Request) -> web.Response:
        """The endpoint itself, if it generates."""
        generates = await self._triton.generates(self._triton.version_of(request))
        found = [openai_wire.model(name_of(request))] if generates else []
        return web.json_response({"object": "list", "data": found})

    async def _answer(
        self, request: web.Request, kind: type[Completion] | type[Chat]
    ) -> web.StreamResponse:
        version = self._triton.version_of(request)
        if not await self._triton.generates(version):
            raise Refused(400, "The model of this endpoint does not generate text.")
        asked: Completion | Chat
        body = await request.read()
        asked = openai_wire.read(Chat, body) if kind is Chat else openai_wire.read(Completion, body)
        answer = Answer(name_of(request), is_chat=kind is Chat)
        told = self._triton.generate(version, asked.question(_seconds(request)))
        async with aclosing(told) as pieces:
            # Nothing is answered before the model has taken the request.
            first = await anext(pieces)
            if asked.stream:
                return await _streamed(request, answer, first, pieces, usage=asked.wants_usage)
            text, end = first["text"], first
            async for piece in pieces:
                text, end = text + piece["text"], piece
        return web.json_response(answer.whole(text, end))


async def _streamed(
    request: web.Request,
    answer: Answer,
    first: Mapping[str, Any],
    pieces: AsyncIterator[Mapping[str, Any]],
    *,
    usage: bool,
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "no-cache"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    end = first
    try:
        for told in (*answer.first(), *answer.pieces(first)):
            await _send(response, told)
        async for end in pieces:
            for told in answer.pieces(end):
                await _send(response, told)
        if usage:
            await _send(response, answer.last(end))
        await response.write(b"data: [DONE]\n\n")
    except Refused as error:
        await _send(response, openai_wire.error(error.status, str(error)))
    except ConnectionResetError:
        # The caller has gone.
        pass
    except (aiohttp.ClientError, OSError):
        text = "The model server went down in the middle of its answer. Send the request again."
        await _send(response, openai_wire.error(503, text))
    return response


async def _send(response: web.StreamResponse, told: Mapping[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(told).encode() + b"\n\n")


def _seconds(request: web.Request) -> float:
    """How long the text may take: it ends in time, so that its caller hears the end of it and not
    the gateway's."""
    try:
        limit = float(request.headers[SECONDS_HEADER])
    except (KeyError, ValueError):
        limit = float(MAX_SECONDS)
    return max(0.8 * limit, limit - 2)
