"""The translator's process: `python -m aiaas_hub.adapters.tf_predict.server SOCKET TRITON`.

It listens on a socket that only the gateway leads to, which has checked the key and written the
version into the path, and asks Triton in binary tensors on another. It keeps nothing.

    POST /v1/models/{model}/versions/{version}:predict
    GET  /v1/models/{model}/versions/{version}[/metadata]
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from aiohttp import web
from tritonclient import http as triton

from aiaas_hub.adapters.tf_predict import translation
from aiaas_hub.adapters.tf_predict.translation import Question, TensorInfo
from aiaas_hub.adapters.triton_local.client import sanitised
from aiaas_hub.gateway.names import NAME_HEADER
from aiaas_hub.gateway.routes import MAX_PREDICT_BYTES
from aiaas_hub.schemas.endpoints import MAX_SECONDS
from aiaas_hub.schemas.errors import InvalidInput

MAX_BODY = MAX_PREDICT_BYTES
"""Its JSON is parsed in a thread beside the others, one after the other."""
_LENGTH = "inference-header-content-length"

log = logging.getLogger(__name__)


class Refused(Exception):
    """Triton's refusal, as it is told to the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Translator:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        # What a version takes never changes, and version numbers are not used again.
        self._known: dict[str, tuple[Sequence[TensorInfo], Sequence[TensorInfo]]] = {}

    async def predict(self, request: web.Request) -> web.Response:
        path = _triton_path(request)
        inputs, outputs = await self._tensors(path)
        body = await request.read()
        question = await asyncio.to_thread(translation.read, body, inputs)
        answered = await self._infer(path, question, outputs)
        text = await asyncio.to_thread(translation.answer, question, answered)
        return web.Response(body=text, content_type="application/json")

    async def status(self, request: web.Request) -> web.Response:
        async with self._session.get(f"{_triton_path(request)}/ready") as answer:
            available = answer.status == web.HTTPOk.status_code
        version = int(request.match_info["version"])
        return web.json_response(translation.status(version, available=available))

    async def metadata(self, request: web.Request) -> web.Response:
        inputs, outputs = await self._tensors(_triton_path(request))
        name = request.headers.get(NAME_HEADER, "model")
        version = int(request.match_info["version"])
        return web.json_response(translation.metadata(name, version, inputs, outputs))

    async def _tensors(self, path: str) -> tuple[Sequence[TensorInfo], Sequence[TensorInfo]]:
        if path not in self._known:
            async with self._session.get(path) as answer:
                await _check(answer)
                found = await answer.json()
            self._known[path] = (_described(found["inputs"]), _described(found["outputs"]))
        return self._known[path]

    async def _infer(
        self, path: str, question: Question, outputs: Sequence[TensorInfo]
    ) -> dict[str, Any]:
        tensors = []
        for tensor in self._known[path][0]:
            array = question.inputs[tensor.name]
            made = triton.InferInput(tensor.name, list(array.shape), tensor.datatype)
            tensors.append(made.set_data_from_numpy(array, binary_data=True))
        wanted = [triton.InferRequestedOutput(o.name, binary_data=True) for o in outputs]
        body, length = triton.InferenceServerClient.generate_request_body(tensors, outputs=wanted)
        headers = {} if length is None else {_LENGTH: str(length)}
        async with self._session.post(f"{path}/infer", data=body, headers=headers) as answer:
            await _check(answer)
            content = await answer.read()
            size = answer.headers.get(_LENGTH)
        result = triton.InferenceServerClient.parse_response_body(
            content, header_length=None if size is None else int(size)
        )
        return {output.name: result.as_numpy(output.name) for output in outputs}


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status == web.HTTPOk.status_code:
        return
    try:
        message = str((await answer.json(content_type=None))["error"])
    except (ValueError, KeyError, TypeError):
        message = "The model server refused the request."
    raise Refused(answer.status, sanitised(message))


def _triton_path(request: web.Request) -> str:
    names = request.match_info
    return f"http://triton/v2/models/{names['model']}/versions/{names['version']}"


def _described(tensors: Sequence[dict[str, Any]]) -> list[TensorInfo]:
    return [TensorInfo(t["name"], t["datatype"], [int(d) for d in t["shape"]]) for t in tensors]


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """TensorFlow Serving's shape of an error: a text."""
    try:
        return await handler(request)
    except InvalidInput as error:
        return web.json_response({"error": error.message}, status=400)
    except Refused as error:
        return web.json_response({"error": str(error)}, status=error.status)
    except TimeoutError:
        text = "The model took longer than its endpoint allows."
        return web.json_response({"error": text}, status=504)
    except (aiohttp.ClientError, OSError):
        text = "The model server is not up. Try again in a moment."
        return web.json_response({"error": text}, status=503)
    except (web.HTTPException, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("A request could not be translated")
        return web.json_response({"error": "The request could not be answered."}, status=500)


async def serve(socket: str, triton_socket: str) -> None:
    timeout = aiohttp.ClientTimeout(total=MAX_SECONDS, connect=5)
    # Who may have how many requests in Triton is the gateway's business. Triton closes idle
    # connections, and a POST on one that has just been closed is not sent again: each has its own.
    connector = aiohttp.UnixConnector(path=triton_socket, limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        translator = Translator(session)
        app = web.Application(client_max_size=MAX_BODY, middlewares=[errors])
        version = r"/v1/models/{model:[a-z0-9-]+}/versions/{version:[0-9]+}"
        app.router.add_post(version + ":predict", translator.predict)
        app.router.add_get(version, translator.status)
        app.router.add_get(version + "/metadata", translator.metadata)
        # What the gateway has given up is not to wait in Triton.
        runner = web.AppRunner(app, access_log=None, handle_signals=True, handler_cancellation=True)
        await runner.setup()
        os.umask(0o177)
        await web.UnixSite(runner, socket).start()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(*sys.argv[1:]))
