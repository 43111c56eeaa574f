"""What the files have in common that Envoy reads, and reads again when they are replaced (xDS by
files)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def versioned(resources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A `DiscoveryResponse`, whose `version_info` names the content."""
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": resources}


def to_text(document: Mapping[str, Any]) -> str:
    """As JSON, which Envoy reads as well as YAML and which has no strings to be misread."""
    return json.dumps(document, separators=(",", ":")) + "\n"


RETRIES = {"retry_on": "connect-failure,reset-before-request", "num_retries": 2}
"""Triton closes idle connections: a request on one that has just been closed was never read, so it
may be sent again."""


def headers_added(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """`HeaderValueOption`s: these, whatever a caller says; Envoy's formatters are filled in."""
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in headers.items()
    ]
