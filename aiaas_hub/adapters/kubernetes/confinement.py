"""What no container of the platform's runs may do."""

from __future__ import annotations

from typing import Any


def confined() -> dict[str, Any]:
    """A container's `securityContext`."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
