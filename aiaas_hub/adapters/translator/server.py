"""The translator's process: `python -m aiaas_hub.adapters.translator.server SOCKET TRITON`.

It listens on a socket that only the gateway leads to, which has checked the key and written the
version into the path, and asks Triton on another; where Triton is pods, that one is the gateway's,
too. It keeps nothing.

    POST /v1/models/{model}/versions/{version}:predict             TensorFlow Serving's
    GET  /v1/models/{model}/versions/{version}[/metadata]

    POST /v1/models/{model}/versions/{version}[/chat]/completions  OpenAI's
    GET  /v1/models/{model}/versions/{version}/listed
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from aiaas_hub.adapters.translator import openai_wire
from aiaas_hub.adapters.translator.completions import Completions
from aiaas_hub.adapters.translator.predictions import Predictions
from aiaas_hub.adapters.translator.triton import Refused, Triton
from aiaas_hub.gateway.routes import MAX_PREDICT_BYTES
from aiaas_hub.schemas.endpoints import MAX_SECONDS
from aiaas_hub.schemas.errors import InvalidInput

MAX_BODY = MAX_PREDICT_BYTES
_LONGEST_LINE = 1 << 20
"""Bytes of one of Triton's events."""

log = logging.getLogger(__name__)


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Each protocol's shape of an error: TensorFlow Serving's is a text, OpenAI's an object."""
    try:
        return await handler(request)
    except InvalidInput as error:
        return _error(request, 400, f"{error.message} {error.remedy}".strip())
    except Refused as error:
        return _error(request, error.status, str(error))
    except TimeoutError:
        return _error(request, 504, "The model took longer than its endpoint allows.")
    except (aiohttp.ClientError, OSError):
        return _error(request, 503, "The model server is not up. Try again in a moment.")
    except (web.HTTPException, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("A request could not be translated")
        return _error(request, 500, "The request could not be answered.")


def _error(request: web.Request, status: int, message: str) -> web.Response:
    is_openai = request.path.endswith(("/completions", "/listed"))
    body = openai_wire.error(status, message) if is_openai else {"error": message}
    return web.json_response(body, status=status)


def application(session: aiohttp.ClientSession) -> web.Application:
    triton = Triton(session)
    predictions, completions = Predictions(triton), Completions(triton)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[errors])
    version = r"/v1/models/{model:[a-z0-9-]+}/versions/{version:[0-9]+}"
    app.router.add_post(version + ":predict", predictions.predict)
    app.router.add_get(version, predictions.status)
    app.router.add_get(version + "/metadata", predictions.metadata)
    app.router.add_post(version + "/completions", completions.complete)
    app.router.add_post(version + "/chat/completions", completions.chat)
    app.router.add_get(version + "/listed", completions.models)
    return app


async def serve(socket: str, triton_socket: str) -> None:
    timeout = aiohttp.ClientTimeout(total=MAX_SECONDS, connect=5)
    # Who may have how many requests in Triton is the gateway's business. Triton closes idle
    # connections, and a POST on one that has just been closed is not sent again: each has its own.
    connector = aiohttp.UnixConnector(path=triton_socket, limit=0, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, read_bufsize=_LONGEST_LINE
    ) as session:
        # What the gateway has given up is not to wait in Triton.
        runner = web.AppRunner(
            application(session), access_log=None, handle_signals=True, handler_cancellation=True
        )
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
