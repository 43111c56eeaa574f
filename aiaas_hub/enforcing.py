"""Runs whose owners' hours are used up are stopped: asked to save and return, then made to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from aiaas_hub.domain.auditing import Act, AuditRecords
from aiaas_hub.domain.quotas import Budgets
from aiaas_hub.domain.records import RunRecords
from aiaas_hub.schemas.audit import Outcome, Via
from aiaas_hub.schemas.runs import RunState


def enforce_quotas(
    records: RunRecords, budgets: Budgets, audit: AuditRecords, wake: Callable[[], None]
) -> None:
    """Write down of each such run that it is to end, and why; the reconciler does the rest.

    A run that is asked to stop sees `ctx.should_stop`, saves and returns; it ends as it reports,
    or as failed with this sentence. `%aiaas resume` goes on from its last checkpoint.
    """
    for live in records.started():
        run = live.run
        if live.cancel_requested or live.stop_error is not None or run.state is RunState.QUEUED:
            continue
        error = budgets.stopped(run)
        if error is None:
            continue
        audit.append(
            Act(
                actor="aiaas",
                via=Via.SERVICE,
                act="stop_run",
                object=f"runs/{run.id}",
                owner=run.owner,
                outcome=Outcome.DONE,
                request_id=f"quota-{live.submission_id}",
                detail={"why": error.message, "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"},
            ),
            once=True,
        )
        records.update(
            run.id, run.attempt, stop_error=error.model_dump(), reason="stopping: out of hours"
        )
        wake()
