"""What the service and a run's driver tell each other through files, on one machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

READY = "ready"
"""Empty; there once the driver's workers wait for a run."""
ASSIGNMENT = "assignment.json"
"""An `Assignment`; linked into the driver's directory once and never changed."""
WAKE = "wake"
"""A FIFO: a byte in it says that the assignment is there."""
BEGUN = "begun"
"""Empty; there from the moment that the driver begins with its run."""
END = "end.json"
"""A `DriverEnd`; written as the driver's last act."""


def trial_storage(storage: Path, number: int) -> Path:
    """A trial's own directory in that of its sweep."""
    return storage / "trials" / str(number)


class Assignment(BaseModel):
    """The one run that a driver runs."""

    submission_id: str
    run_id: str
    api: str
    """Base URL of the service's API."""
    token_file: Path
    """Holds the run token (mode 600): a secret has no place in an environment."""
    storage: Path
    """The run's own directory, for checkpoints."""
    resumed_storage: Path | None = None
    """The directory of the run, or trial, whose last checkpoint this one begins with."""


class DriverEnd(BaseModel):
    status: int
    """Exit status: 0 succeeded, 1 failed, 3 the service had ended the run meanwhile."""
    message: str = ""
