"""What is installed where runs are executed: beside the service for its own Ray, and elsewhere as
the runs there tell when they begin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from aiaas_hub.schemas.jobs import JobEnvironment
from aiaas_hub.schemas.runs import Environment, Run, RunState


class EnvironmentRecords(Protocol):
    def put(
        self, place: str, submission: str, environment: JobEnvironment, told_at: datetime
    ) -> None:
        """Keep what a submission tells of a place instead of what others told; its own first word
        stays."""

    def get(self, place: str) -> tuple[JobEnvironment, datetime] | None:
        """What was told last, and when."""


class Environments(Protocol):
    @property
    def asks(self) -> bool:
        """Whether jobs are to tell what is installed where they run."""

    def of(self, packages: Iterable[str]) -> Environment | None:
        """With the workers' versions of these distributions; None while nobody can tell."""

    def tell(self, run: Run, environment: JobEnvironment) -> None:
        """What this run's job finds."""


class OwnEnvironment:
    """Of workers that have what the service has."""

    asks = False

    def __init__(self, installed: Callable[[Iterable[str]], Environment]) -> None:
        self._installed = installed

    def of(self, packages: Iterable[str]) -> Environment | None:
        return self._installed(packages)

    def tell(self, run: Run, environment: JobEnvironment) -> None:
        """Nothing: it is known."""


class ToldEnvironment:
    """Of a cluster of others, or an image: only what runs there is sure to know.

    `place` names it as the operator does, so that another cluster or image is not taken for the
    one before.
    """

    asks = True

    def __init__(self, records: EnvironmentRecords, place: str) -> None:
        self._records = records
        self._place = place

    def of(self, packages: Iterable[str]) -> Environment | None:
        found = self._records.get(self._place)
        if found is None:
            return None
        told, told_at = found
        return Environment(
            python=told.python,
            client=told.client,
            packages={name: told.packages.get(canonical(name)) for name in packages},
            told_at=told_at,
        )

    def tell(self, run: Run, environment: JobEnvironment) -> None:
        # Before any worker began, thus before the user's own code could say anything here.
        if run.state is RunState.STARTING:
            submission = f"{run.id}-{run.attempt}"
            packages = {canonical(name): of for name, of in environment.packages.items()}
            kept = environment.model_copy(update={"packages": packages})
            self._records.put(self._place, submission, kept, datetime.now(UTC))


def canonical(name: str) -> str:
    """A distribution's name as all its spellings have it in common."""
    return re.sub(r"[-_.]+", "-", name).lower()
