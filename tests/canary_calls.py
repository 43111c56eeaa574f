"""Publishing a canary of alice's digits, what its callers did, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_world import World

from aiaas_hub.domain.ports import VersionTraffic

ENDPOINT = "/endpoints/alice/digits"


def publish(world: World, onnx: bytes, **canary: Any) -> Any:
    world.model(onnx=onnx)
    body: dict[str, Any] = {"model": "cnn"}
    if canary:
        body["canary"] = canary
    world.ok("POST", f"{ENDPOINT}/publish", json=body)
    world.tick()
    return world.ok("GET", ENDPOINT)


def routed(world: World) -> dict[int, int]:
    (route,) = world.gateway.routes
    return {target.version: target.percent for target in route.targets}


def later(world: World, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    monkeypatch.setattr(world.reconciler._baking, "_now", now)


def counted(world: World, version: int, requests: int, errors: int = 0, ms: float = 1.0) -> None:
    (route,) = world.gateway.routes
    (model,) = {t.model for t in route.targets if t.version == version}
    bounds = (0.5, 1.0, 10.0, 100.0, 1000.0)
    latencies = {bound: requests if bound >= ms else 0 for bound in bounds}
    world.gateway.counted[model, version] = VersionTraffic(requests, errors, 0, latencies)


def history(world: World) -> list[tuple[str, str, dict[str, int]]]:
    items = world.ok("GET", f"{ENDPOINT}/history")["items"]
    return [(item["action"], item["by"], item["after"]) for item in items]
