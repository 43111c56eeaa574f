"""Errors that are raised beside the notebook or the run, and not by the service.

    AiaasError           aiaas_hub.schemas.errors has the service's own below it
    ├── RunFailed        a watched run ended without success
    ├── SmokeFailed      the first steps failed, before anything was submitted
    ├── PublishFailed    a version did not come to serve
    ├── InvalidInput
    │   └── MissingParam the code asks for a parameter that its run does not have
    └── Conflict
        └── RunOver      a job's attempt is over for the service: stop

Each is a sentence with a remedy, and IPython shows it without our frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from aiaas_hub.schemas.errors import AiaasError, Conflict, InvalidInput

if TYPE_CHECKING:
    from aiaas_magics.endpoint import Endpoint
    from aiaas_magics.run import Run


class RunFailed(AiaasError):
    """A watched run ended without success; `.run` is that run."""

    code = "run_failed"
    status = 409

    def __init__(self, run: Run, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.run = run


class SmokeFailed(AiaasError):
    """Code failed in its first steps, here; nothing was submitted."""

    code = "smoke_failed"
    status = 409


class PublishFailed(AiaasError):
    """A version did not come to serve; what served before serves still. `.endpoint` is it."""

    code = "publish_failed"
    status = 409

    def __init__(self, endpoint: Endpoint, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.endpoint = endpoint


class MissingParam(InvalidInput, KeyError):
    """A KeyError, so that `in` and `.get` of a mapping work as always."""


class RunOver(Conflict):
    """The service says that this attempt is over: cancelled, or decided otherwise. Stop."""


def invalid(error: ValidationError) -> InvalidInput:
    """In a sentence what a wire model says of a value that it does not take."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return InvalidInput(
        f"{where or error.title} is not valid: {first['msg']}.", remedy="Correct it and try again."
    )
