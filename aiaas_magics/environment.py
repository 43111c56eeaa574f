"""The kernel's environment against that of the workers, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import Environment
from aiaas_magics import __version__
from aiaas_magics.snapshot import PYTHON


@dataclass(frozen=True)
class Difference:
    """A distribution that the code imports and that the workers have otherwise."""

    package: str
    here: str
    there: str | None
    """None: not installed."""

    @property
    def matters(self) -> bool:
        """Patch releases keep what code relies on; others may not."""
        return self.there is None or _series(self.here) != _series(self.there)

    def __str__(self) -> str:
        there = f"the workers have {self.there}" if self.there else "the workers have none"
        return f"{self.package} is {self.here} here, {there}"


def check(there: Environment) -> None:
    """Raise `InvalidInput` where code does not travel: another Python, another release of ours."""
    if not there.is_recent:
        return
    if there.python != PYTHON:
        raise InvalidInput(
            f"This notebook runs Python {PYTHON} and the platform's workers {there.python}: code "
            "does not travel between the two. Nothing was sent.",
            remedy=f"Choose a kernel with Python {there.python}.",
        )
    if _series(there.client) != _series(__version__):
        raise InvalidInput(
            f"This notebook has aiaas-hub {__version__} and the platform's workers "
            f"{there.client}: they do not understand each other's code. Nothing was sent.",
            remedy=f"Type '%pip install aiaas-hub=={there.client}' and restart the kernel.",
        )


def differences(here: Mapping[str, str], there: Environment) -> list[Difference]:
    """Those that were found with another version, the ones that matter first."""
    found = [
        Difference(name, version, there.packages[name])
        for name, version in here.items()
        if name in there.packages and there.packages[name] != version
    ]
    return sorted(found, key=lambda one: (not one.matters, one.package))


def _series(version: str) -> list[str]:
    """Major and minor, without a build's own mark such as `+cpu`."""
    return version.partition("+")[0].split(".")[:2]
