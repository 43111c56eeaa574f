"""What a run's driver is given: its directory below the runs', its token and its assignment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiaas_hub.domain.ports import JobSubmission
from aiaas_hub.home import write_private
from aiaas_hub.schemas.assignments import Assignment, trial_storage


def make(runs: Path, job: JobSubmission, api_url: str) -> Assignment:
    """Write the job's token and make its directory; a repeat changes nothing."""
    run_id, _, attempt = job.id.rpartition("-")
    storage = _storage(runs, run_id)
    storage.mkdir(mode=0o700, parents=True, exist_ok=True)
    token_file = runs / run_id / f"token-{attempt}"
    write_private(token_file, job.token)
    return Assignment(
        submission_id=job.id,
        run_id=run_id,
        api=api_url,
        token_file=token_file,
        storage=storage,
        resumed_storage=_resumed_storage(runs, job),
    )


def forget_tokens(runs: Path, live: Callable[[str], bool]) -> None:
    """Remove the tokens of jobs that are not `live`, asked by their submission id."""
    for file in runs.glob("*/token-*"):
        if not live(f"{file.parent.name}-{file.name.removeprefix('token-')}"):
            file.unlink(missing_ok=True)


def _resumed_storage(runs: Path, job: JobSubmission) -> Path | None:
    if job.resumed_from is None:
        return None
    storage = _storage(runs, job.resumed_from)
    return storage if job.resumed_trial is None else trial_storage(storage, job.resumed_trial)


def _storage(runs: Path, run_id: str) -> Path:
    return runs / run_id / "storage"
