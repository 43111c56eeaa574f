"""The translator before a stand-in for Triton that stops in the middle of its answers; what it
does before the real one is in tests/engines."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import test_utils, web

from aiaas_hub.adapters.translator import predictions, tf_serving, triton
from aiaas_hub.adapters.translator.server import application
from aiaas_hub.schemas.errors import InvalidInput

Client = test_utils.TestClient[web.Request, web.Application]

REQUEST = {"name": "request", "datatype": "BYTES", "shape": [-1, 1]}
PATH = "/v1/models/m/versions/1/completions"
END = {"text": "!", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 2}


def event(**told: Any) -> bytes:
    return b"data: " + json.dumps({"event": json.dumps(told)}).encode() + b"\n\n"


async def answered(directory: Path, how: str, *, stream: bool) -> tuple[int, str]:
    """Status and body of what the translator makes of a Triton that ends so."""

    async def metadata(_: web.Request) -> web.Response:
        return web.json_response({"inputs": [REQUEST], "outputs": []})

    async def generate(request: web.Request) -> web.StreamResponse:
        if how == "refuses":
            body = b'data: {"error":"the prompt is /etc/empty/now"}\n\n'
            return web.Response(status=400, body=body)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event(text="hi"))
        if how == "hangs":
            await asyncio.sleep(30)
        elif how == "breaks":
            assert request.transport is not None
            request.transport.close()
        elif how == "fails":
            await response.write(b'data: {"error":"Stub process is not healthy."}\n\n')
        elif how == "talks":
            for _ in range(4):
                await asyncio.sleep(0.2)
                await response.write(event(text=""))
            await response.write(event(**END))
        return response

    app = web.Application()
    app.router.add_get("/v2/models/m/versions/1", metadata)
    app.router.add_post("/v2/models/m/versions/1/generate_stream", generate)
    async with translating(directory, app) as client:
        answer = await client.post(PATH, json={"prompt": "a", "stream": stream})
        return answer.status, await answer.text()


@asynccontextmanager
async def translating(directory: Path, app: web.Application) -> AsyncIterator[Client]:
    """The translator before `app` in Triton's stead."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(directory / "http")).start()
    connector = aiohttp.UnixConnector(path=str(directory / "http"), force_close=True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            test_utils.TestClient(test_utils.TestServer(application(session))) as client,
        ):
            yield client
    finally:
        await runner.cleanup()


def within(answering: Coroutine[Any, Any, tuple[int, str]]) -> tuple[int, str]:
    """Of a Triton that hangs for longer."""
    return asyncio.run(asyncio.wait_for(answering, 15))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "_TALKING", aiohttp.ClientTimeout(total=20, sock_read=0.5))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["hangs", "breaks", "fails", "ends"])
def test_a_text_that_breaks_off_is_said_to_have_broken_off(tmp_path: Path, how: str) -> None:
    status, body = within(answered(tmp_path, how, stream=True))
    told = [line.removeprefix("data: ") for line in body.splitlines() if line]
    # No end that could be taken for that of the text.
    assert status == 200
    assert "[DONE]" not in told
    assert [choice["text"] for choice in json.loads(told[0])["choices"]] == ["hi"]
    assert sorted(json.loads(told[-1])["error"]) == ["code", "message", "param", "type"]
    assert json.loads(told[-1])["error"]["type"] == "server_error"
    status, body = within(answered(tmp_path, how, stream=False))
    assert status == 503
    assert json.loads(body)["error"]["type"] == "server_error"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stream", [True, False])
def test_a_model_that_says_that_it_works_is_waited_for(tmp_path: Path, stream: bool) -> None:
    status, body = within(answered(tmp_path, "talks", stream=stream))
    assert status == 200
    if stream:
        assert body.count("data: ") == 3
        assert body.endswith("data: [DONE]\n\n")
    else:
        assert json.loads(body)["choices"][0]["text"] == "hi!"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_has_its_status_and_no_paths(tmp_path: Path, stream: bool) -> None:
    status, body = within(answered(tmp_path, "refuses", stream=stream))
    assert status == 400
    assert json.loads(body)["error"]["message"] == "the prompt is now"


def test_the_json_of_few_requests_is_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes many times its size meanwhile; whoever waits has not sent it yet."""
    reading, most = 0, 0
    guard = threading.Lock()

    def read(body: bytes, inputs: Any) -> Any:
        nonlocal reading, most
        with guard:
            reading += 1
            most = max(most, reading)
        time.sleep(0.05)
        with guard:
            reading -= 1
        raise InvalidInput("Nothing is like that.", remedy="")

    async def metadata(_: web.Request) -> web.Response:
        return web.json_response({"inputs": [], "outputs": []})

    async def ask() -> list[int]:
        app = web.Application()
        app.router.add_get("/v2/models/m/versions/1", metadata)
        path = "/v1/models/m/versions/1:predict"
        async with translating(tmp_path, app) as client:
            answers = await asyncio.gather(*(client.post(path, json={}) for _ in range(8)))
            return [answer.status for answer in answers]

    monkeypatch.setattr(tf_serving, "read", read)
    assert asyncio.run(ask()) == [400] * 8
    assert most == predictions.AT_ONCE
