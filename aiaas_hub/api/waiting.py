"""Work that takes long, for as long as whoever asked for it waits; and answers that are files."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.responses import StreamingResponse

T = TypeVar("T")

PARQUET = "application/vnd.apache.parquet"
MAX_WAITING = 32
"""Calls at once. They may hold a thread for minutes, so these have their own."""
_LOOK_SECONDS = 0.3


async def while_waited_for(request: Request, work: Callable[[Callable[[], bool]], T]) -> T:
    """What `work` gives. It is told whether the caller is gone, by what it is called with."""
    gone = threading.Event()
    result: list[T] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            result.append(work(gone.is_set))
        except Exception as error:  # raised again outside the group, which would wrap it
            failure.append(error)

    async def watch() -> None:
        while not await request.is_disconnected():
            await anyio.sleep(_LOOK_SECONDS)
        gone.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await anyio.to_thread.run_sync(run, limiter=_limiter(request))
        group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    return result[0]


def _limiter(request: Request) -> anyio.CapacityLimiter:
    """Made with the first call: it belongs to the running event loop."""
    state = request.app.state
    if not hasattr(state, "waiting"):
        state.waiting = anyio.CapacityLimiter(MAX_WAITING)
    limiter: anyio.CapacityLimiter = state.waiting
    return limiter


def parquet_answer(
    content: Iterator[bytes] | Callable[[Path], Mapping[str, str] | None],
) -> StreamingResponse:
    """A Parquet file: its blocks, or what writes it, which may give headers as well."""
    if not callable(content):
        return StreamingResponse(content, media_type=PARQUET)
    with tempfile.TemporaryDirectory(prefix="aiaas-answer-") as directory:
        aside = Path(directory) / "data.parquet"
        headers = content(aside)
        # The open file outlives its name: nothing stays behind, whatever the reader does.
        file = aside.open("rb")
    return StreamingResponse(_blocks(file), media_type=PARQUET, headers=headers)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(1 << 20):
            yield block
