"""The files that come with the platform: examples and the hub's default configuration.

A clone has them beside the packages; an installed wheel has them in the environment's `share`.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from aiaas_hub.schemas.errors import Unavailable


def shipped(name: str) -> Path:
    """The directory `examples` or `hub_config`; `Unavailable` if this installation lacks it."""
    clone = Path(__file__).resolve().parents[2]
    candidates = [Path(sysconfig.get_path("data")) / "share" / "aiaas-hub" / name]
    # A wheel's neighbour in site-packages may be called `examples` as well: only a clone counts.
    if (clone / "pyproject.toml").is_file():
        candidates.insert(0, clone / name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise Unavailable(
        f"This installation lacks its directory {name!r} (looked in "
        f"{' and '.join(str(candidate) for candidate in candidates)}).",
        remedy="Reinstall it: pip install --force-reinstall 'aiaas-hub[local]'.",
    )
