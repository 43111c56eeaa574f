"""`ray`, which gives a node as long to start as a busy machine needs: Ray itself gives up after
30 s, in which its raylet may not have been loaded.

A raylet gives its agent 15 s, whatever one sets, and on two cores all that a head starts with it
takes as long: so the dashboard starts without what nobody here looks at."""

from __future__ import annotations

import functools
import time
from typing import Any

import psutil
from ray._private import node, ray_constants, services
from ray.scripts.scripts import main

PATIENCE_SECONDS = 180
DASHBOARD_MODULES = "JobHead,NodeHead"
_get_node = services.get_node
_start_process = services.start_ray_process


def _get_node_patiently(*arguments: Any, **named: Any) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _get_node(*arguments, **named)
        except RuntimeError:
            # One that is gone is not waited for: the pod fails, and another one takes its place.
            if time.monotonic() > end or not _has_raylet():
                raise
            time.sleep(0.5)


def _has_raylet() -> bool:
    children = psutil.Process().children()
    return any(one.name() == "raylet" and one.status() != psutil.STATUS_ZOMBIE for one in children)


def _start_little(command: list[str], kind: str, **named: Any) -> Any:
    if kind == ray_constants.PROCESS_TYPE_DASHBOARD:
        command = [*command, f"--modules-to-load={DASHBOARD_MODULES}"]
    return _start_process(command, kind, **named)


services.get_node = _get_node_patiently
services.start_ray_process = _start_little
node.get_all_node_info_until_retrieved = functools.partial(
    node.get_all_node_info_until_retrieved, num_retries=PATIENCE_SECONDS // 2
)
main()
