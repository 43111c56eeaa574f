"""TensorFlow Serving's REST predict; see `tf_serving` for its JSON."""

from __future__ import annotations

import asyncio

from aiohttp import web

from aiaas_hub.adapters.translator import openai_wire, tf_serving
from aiaas_hub.adapters.translator.triton import Refused, Triton
from aiaas_hub.gateway.names import NAME_HEADER

AT_ONCE = 2
"""Requests whose JSON is read or written."""


class Predictions:
    def __init__(self, triton: Triton) -> None:
        self._triton = triton
        # JSON takes many times its size while it is read: the rest waits, and in the gateway.
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def predict(self, request: web.Request) -> web.Response:
        version = self._triton.version_of(request)
        if await self._triton.generates(version):
            raise Refused(400, "This model generates text: ask …/v1/completions for it.")
        inputs, _ = await self._triton.tensors(version)
        async with self._turns:
            body = await request.read()
            question = await asyncio.to_thread(tf_serving.read, body, inputs)
            del body
        answered = await self._triton.infer(version, question)
        async with self._turns:
            text = await asyncio.to_thread(tf_serving.answer, question, answered)
        return web.Response(body=text, content_type="application/json")

    async def status(self, request: web.Request) -> web.Response:
        """Of a model that generates, what OpenAI's clients ask for under the same address."""
        version = self._triton.version_of(request)
        available = await self._triton.is_ready(version)
        if available and await self._triton.generates(version):
            return web.json_response(openai_wire.model(name_of(request)))
        number = int(request.match_info["version"])
        return web.json_response(tf_serving.status(number, available=available))

    async def metadata(self, request: web.Request) -> web.Response:
        inputs, outputs = await self._triton.tensors(self._triton.version_of(request))
        number = int(request.match_info["version"])
        return web.json_response(tf_serving.metadata(name_of(request), number, inputs, outputs))


def name_of(request: web.Request) -> str:
    """The endpoint's own."""
    return request.headers.get(NAME_HEADER, "model")
