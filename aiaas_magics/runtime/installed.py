"""What is installed where this process runs, as a service elsewhere cannot know."""

from __future__ import annotations

import sys
from importlib import metadata

from aiaas_hub.schemas.jobs import JobEnvironment
from aiaas_magics import __version__


def installed() -> JobEnvironment:
    return JobEnvironment(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        client=__version__,
        # A broken installation has no name.
        packages={
            one.metadata["Name"]: one.version
            for one in metadata.distributions()
            if one.metadata["Name"]
        },
    )
