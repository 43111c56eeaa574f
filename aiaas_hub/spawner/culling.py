"""Which idle servers are stopped: those whose profile says after how long, and no other.

The culler's own question, for its configuration:

    c.IdleCuller.cull_arbiter_hook = arbiter(Path("profiles.yaml"))

A server is idle while no page asks it for anything and no kernel prints, computes or follows a
run: `aiaas_magics.lab.activity` tells of the last two. Runs themselves need no server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.spawner.profiles import load_profiles

log = logging.getLogger(__name__)


def arbiter(profiles_file: Path) -> Callable[..., bool]:
    """Whether a server may be stopped. The file is read anew each time."""

    def may_stop(
        *,
        inactive: timedelta | None,
        server: Mapping[str, Any],
        **_: Any,
    ) -> bool:
        limit = idle_limit(profiles_file, server)
        return limit is not None and inactive is not None and inactive >= limit

    return may_stop


def idle_limit(profiles_file: Path, server: Mapping[str, Any]) -> timedelta | None:
    """Of a server as the hub describes it; None: it is never idle for too long."""
    try:
        profiles = load_profiles(profiles_file).profiles
    except AiaasError as error:
        # Nobody's work ends for want of a file.
        log.error("No idle server is stopped: %s", error)
        return None
    slug = (server.get("user_options") or {}).get("profile")
    for profile in profiles:
        if profile.slug == slug or (slug is None and profile.default):
            return profile.idle_limit
    return None  # its profile is gone: whoever took it away looks after its servers


def wants_culler(profiles_file: Path) -> bool:
    """Whether any profile has an idle limit."""
    try:
        return any(profile.idle_limit for profile in load_profiles(profiles_file).profiles)
    except AiaasError:
        return False
