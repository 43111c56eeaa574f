"""What is installed beside the service, which is what its own Ray's workers find."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata

import aiaas_hub
from aiaas_hub.schemas.runs import Environment


def own_environment(packages: Iterable[str]) -> Environment:
    """Versions of these distributions in the service's own environment."""
    return Environment(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        client=aiaas_hub.__version__,
        packages={name: _version(name) for name in packages},
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
