"""`ray`, which gives a node as long to start as a busy machine needs: Ray itself gives up after
30 s, in which its raylet may not have been loaded."""

from __future__ import annotations

import functools
import time
from typing import Any

from ray._private import node, services
from ray.scripts.scripts import main

PATIENCE_SECONDS = 180
_get_node = services.get_node


def _get_node_patiently(*arguments: Any, **named: Any) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _get_node(*arguments, **named)
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


services.get_node = _get_node_patiently
node.get_all_node_info_until_retrieved = functools.partial(
    node.get_all_node_info_until_retrieved, num_retries=PATIENCE_SECONDS // 2
)
main()
