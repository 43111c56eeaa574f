"""What the protocols share: asking Triton over HTTP, and its refusals."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from tritonclient import http as triton

from aiaas_hub.adapters.translator.tf_serving import Question, TensorInfo
from aiaas_hub.adapters.triton_local.client import sanitised
from aiaas_hub.adapters.triton_local.model_configuration import EVENT, REQUEST
from aiaas_hub.gateway.names import ONWARD_HEADER
from aiaas_hub.schemas.endpoints import MAX_SECONDS

_LENGTH = "inference-header-content-length"
_DATA = b"data: "
_TALKING = aiohttp.ClientTimeout(total=MAX_SECONDS, connect=5, sock_read=20)
"""A model that works on a text says so every five seconds."""
_STOPPED = "The model stopped in the middle of its answer. Send the request again."


class Refused(Exception):
    """Triton's refusal, as it is told to the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Version(NamedTuple):
    """A model's, as the gateway wrote it; `headers` lead to its Triton where there are several."""

    url: str
    headers: dict[str, str]


class Triton:
    """Of one model's version at a time."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        # What a version takes never changes, and version numbers are not used again.
        self._known: dict[str, tuple[Sequence[TensorInfo], Sequence[TensorInfo]]] = {}

    @staticmethod
    def version_of(request: web.Request) -> Version:
        names, onward = request.match_info, request.headers.get(ONWARD_HEADER)
        return Version(
            f"http://triton/v2/models/{names['model']}/versions/{names['version']}",
            {} if onward is None else {ONWARD_HEADER: onward},
        )

    async def is_ready(self, version: Version) -> bool:
        async with self._session.get(f"{version.url}/ready", headers=version.headers) as answer:
            return answer.status == web.HTTPOk.status_code

    async def tensors(self, version: Version) -> tuple[Sequence[TensorInfo], Sequence[TensorInfo]]:
        """Inputs and outputs."""
        if version.url not in self._known:
            async with self._session.get(version.url, headers=version.headers) as answer:
                await _check(answer)
                found = await answer.json()
            self._known[version.url] = (_described(found["inputs"]), _described(found["outputs"]))
        return self._known[version.url]

    async def generates(self, version: Version) -> bool:
        """Whether the version goes on with texts."""
        inputs, _ = await self.tensors(version)
        return any(tensor.name == REQUEST for tensor in inputs)

    async def infer(self, version: Version, question: Question) -> dict[str, Any]:
        inputs, outputs = await self.tensors(version)
        tensors = []
        for tensor in inputs:
            array = question.inputs[tensor.name]
            made = triton.InferInput(tensor.name, list(array.shape), tensor.datatype)
            tensors.append(made.set_data_from_numpy(array, binary_data=True))
        wanted = [triton.InferRequestedOutput(o.name, binary_data=True) for o in outputs]
        body, length = triton.InferenceServerClient.generate_request_body(tensors, outputs=wanted)
        headers = version.headers | ({} if length is None else {_LENGTH: str(length)})
        async with self._session.post(f"{version.url}/infer", data=body, headers=headers) as answer:
            await _check(answer)
            content = await answer.read()
            size = answer.headers.get(_LENGTH)
        result = triton.InferenceServerClient.parse_response_body(
            content, header_length=None if size is None else int(size)
        )
        return {output.name: result.as_numpy(output.name) for output in outputs}

    async def generate(
        self, version: Version, question: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Pieces of the text, as the backend's `generating` has them; closing it ends the text.

        Raises `Refused` where it does not begin or breaks off.
        """
        body = {REQUEST: json.dumps(question)}
        url, stopped = f"{version.url}/generate_stream", Refused(503, _STOPPED)
        try:
            async with self._session.post(
                url, json=body, headers=version.headers, timeout=_TALKING
            ) as answer:
                await _check(answer)
                async for line in answer.content:
                    if not line.startswith(_DATA):
                        continue
                    told = json.loads(line.removeprefix(_DATA))
                    if "error" in told:
                        # In the middle of an answer, whose status was 200.
                        raise Refused(503, sanitised(told["error"]))
                    piece = json.loads(told[EVENT])
                    yield piece
                    if "finish_reason" in piece:
                        return
        except aiohttp.SocketTimeoutError:
            raise stopped from None
        raise stopped


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status == web.HTTPOk.status_code:
        return
    try:
        # An event where events were asked for.
        body = (await answer.read()).strip().removeprefix(_DATA)
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = "The model server refused the request."
    raise Refused(answer.status, sanitised(message))


def _described(tensors: Sequence[dict[str, Any]]) -> list[TensorInfo]:
    return [TensorInfo(t["name"], t["datatype"], [int(d) for d in t["shape"]]) for t in tensors]
