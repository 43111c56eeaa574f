"""The state machines, each in one place. A terminal state is never left."""

from __future__ import annotations

from aiaas_hub.schemas.endpoints import EndpointState as E
from aiaas_hub.schemas.errors import Conflict
from aiaas_hub.schemas.runs import RunState as R

RUN_TRANSITIONS: dict[R, frozenset[R]] = {
    # queued → failed: the engine refuses the submission for good.
    R.QUEUED: frozenset({R.STARTING, R.CANCELLED, R.FAILED}),
    # Back to queued: a new attempt of the same run.
    R.STARTING: frozenset({R.QUEUED, R.RUNNING, R.SUCCEEDED, R.FAILED, R.CANCELLED, R.LOST}),
    R.RUNNING: frozenset({R.QUEUED, R.SUCCEEDED, R.FAILED, R.CANCELLED, R.LOST}),
    R.SUCCEEDED: frozenset(),
    R.FAILED: frozenset(),
    R.CANCELLED: frozenset(),
    R.LOST: frozenset(),
}

ENDPOINT_TRANSITIONS: dict[E, frozenset[E]] = {
    E.STAGING: frozenset({E.VERIFYING, E.FAILED, E.RETIRED}),
    E.VERIFYING: frozenset({E.CANARY, E.FAILED, E.RETIRED}),
    E.CANARY: frozenset({E.SERVING, E.FAILED, E.RETIRED}),
    E.SERVING: frozenset({E.RETIRED}),
    E.FAILED: frozenset(),
    E.RETIRED: frozenset(),
}


def check_run_transition(current: R, new: R) -> None:
    """Raise `Conflict` unless a run may go from `current` to `new`."""
    if new not in RUN_TRANSITIONS[current]:
        raise Conflict(
            f"The run is {current} and cannot become {new}.",
            remedy="See its state with %aiaas run ID.",
        )


def check_endpoint_transition(current: E, new: E) -> None:
    """Raise `Conflict` unless an endpoint's version may go from `current` to `new`."""
    if new not in ENDPOINT_TRANSITIONS[current]:
        raise Conflict(
            f"The endpoint's version is {current} and cannot become {new}.",
            remedy="See its state with %aiaas endpoint NAME.",
        )
