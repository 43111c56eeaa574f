"""Runs over REST, and the stream of what happens to one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiaas_hub.schemas.errors import NotFound, Unavailable
from aiaas_hub.schemas.lineage import Lineage
from aiaas_hub.schemas.runs import (
    EventFiles,
    LogChunk,
    Metrics,
    Run,
    RunCreate,
    RunKind,
    RunPlan,
    RunResume,
    RunState,
)
from aiaas_magics.client.transport import Transport, decode, segment

# How long a watcher goes on without a word from the service before it gives up: longer than a
# restart of the platform takes.
PATIENCE = 120.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Disconnected:
    """The stream broke; the watcher is coming back by itself."""

    reason: str


Update = Run | Metrics | LogChunk | Disconnected


class RunsClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        state: RunState | None = None,
        kind: RunKind | None = None,
        name: str | None = None,
    ) -> Iterator[Run]:
        """Newest first; trials only where they are asked for."""
        query = {"state": state, "kind": kind, "name": name}
        return self._transport.pages("/runs", Run, query=query)

    def trials(self, sweep_id: str) -> Iterator[Run]:
        """A sweep's, newest first."""
        return self._transport.pages("/runs", Run, query={"parent": sweep_id})

    def get(self, run_id: str) -> Run:
        return self._transport.call("GET", _path(run_id), Run)

    def create(self, run: RunCreate) -> Run:
        return self._transport.call("POST", "/runs", Run, body=run)

    def plan(self, run: RunCreate) -> RunPlan:
        """What would happen to it if it were created now; its snapshot need not be there yet."""
        return self._transport.call("POST", "/runs/plan", RunPlan, body=run)

    def cancel(self, run_id: str) -> Run:
        return self._transport.call("POST", f"{_path(run_id)}/cancel", Run)

    def resume(self, run_id: str, changes: RunResume) -> Run:
        return self._transport.call("POST", f"{_path(run_id)}/resume", Run, body=changes)

    def logs(
        self, run_id: str, *, offset: int = 0, limit: int | None = None, tail: int | None = None
    ) -> LogChunk:
        """From byte `offset`, or the last `tail` bytes in whole lines."""
        query = {"offset": offset, "limit": limit, "tail": tail}
        return self._transport.call("GET", f"{_path(run_id)}/logs", LogChunk, query=query)

    def metrics(self, run_id: str, *, since: int = 0, points: int | None = None) -> Metrics:
        """The reports after `since`, or all of them thinned to about `points` of each metric."""
        query = {"since": since, "points": points}
        return self._transport.call("GET", f"{_path(run_id)}/metrics", Metrics, query=query)

    def download_event_files(self, run_id: str, files: EventFiles, target: Path) -> None:
        """Write a worker's files for TensorBoard to `target`, a zip archive."""
        path = f"{_path(run_id)}/event-files/{files.attempt}/{files.worker}"
        self._transport.download(path, target)

    def lineage(self, run_id: str) -> Lineage:
        return self._transport.call("GET", f"{_path(run_id)}/lineage", Lineage)

    def watch(
        self, run_id: str, *, metrics_since: int = 0, log_offset: int = 0
    ) -> Iterator[Update]:
        """What happens to a run until it is over, each thing once.

        A stream that ends is only a stream that ended: it is resumed by offsets until the run's
        own state is terminal. Gives up with `Unavailable` after `PATIENCE` seconds of silence.
        """
        pause = _FIRST_PAUSE
        silent_since = time.monotonic()
        while True:
            reason = "the connection was closed"
            try:
                query = {"metrics_since": metrics_since, "log_offset": log_offset}
                with self._transport.events(f"{_path(run_id)}/events", query=query) as events:
                    try:
                        for event in events:
                            pause = _FIRST_PAUSE
                            update = _update(event.name, event.data)
                            if update is None:
                                continue
                            if isinstance(update, Metrics):
                                metrics_since = max(metrics_since, update.next_since)
                            elif isinstance(update, LogChunk):
                                log_offset = max(log_offset, update.next_offset)
                            yield update
                            if event.name == "end" and isinstance(update, Run):
                                if update.state.is_terminal:
                                    return
                                break
                    finally:
                        # While it was open the service was there, though the run was quiet.
                        silent_since = time.monotonic()
            except Unavailable as error:
                reason = error.message
                if time.monotonic() - silent_since > PATIENCE:
                    raise
            yield Disconnected(reason)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _update(name: str, data: str) -> Run | Metrics | LogChunk | None:
    """None: an event of a newer platform, which is none of this client's business."""
    kinds: dict[str, type[Run] | type[Metrics] | type[LogChunk]] = {
        "run": Run,
        "end": Run,
        "metrics": Metrics,
        "log": LogChunk,
    }
    kind = kinds.get(name)
    return decode(data, kind) if kind is not None else None


def _path(run_id: str) -> str:
    # As a path an empty id, or one of dots, would be another address.
    if not isinstance(run_id, str) or not run_id.strip("."):
        raise NotFound(f"{run_id!r} is no run's id.", remedy="See %aiaas runs.")
    return f"/runs/{segment(run_id)}"
