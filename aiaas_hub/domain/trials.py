"""Trials: the runs that a sweep begins for itself, with its own run token.

A trial is a run like any other where it reports, and takes no place in the queue and no quota:
its sweep was given what all its trials take.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aiaas_hub.domain.ports import Notifier
from aiaas_hub.domain.records import RunRecords
from aiaas_hub.domain.runs import merged_params, new_run_id, topic
from aiaas_hub.domain.tokens import RunTokens
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.jobs import Trial, TrialCreate
from aiaas_hub.schemas.runs import Run, RunKind, RunState


class Trials:
    def __init__(self, records: RunRecords, tokens: RunTokens, notifier: Notifier) -> None:
        self._records = records
        self._tokens = tokens
        self._notifier = notifier

    def begin(self, sweep: Run, request: TrialCreate) -> Trial:
        """The trial with this number, begun now unless it was before. Raises `InvalidInput` if
        the run sweeps nothing, not so much, or has too many parameters with the trial's."""
        if sweep.kind is not RunKind.SWEEP or sweep.sweep is None:
            raise InvalidInput("Only a sweep has trials.")
        if request.number >= sweep.sweep.trials:
            raise InvalidInput(
                f"The sweep has {sweep.sweep.trials} trials, numbered from 0.",
                remedy="Submit it again with more: --trials.",
            )
        now = datetime.now(UTC)
        added = self._records.add(
            Run(
                id=new_run_id(),
                owner=sweep.owner,
                name=sweep.name,
                kind=RunKind.TRIAL,
                parent=sweep.id,
                state=RunState.RUNNING,
                attempt=1,
                snapshot=sweep.snapshot,
                datasets=sweep.datasets,
                params=merged_params(sweep.params, request.params),
                resources=sweep.resources,
                retries=0,
                priority=sweep.priority,
                early_stop=sweep.early_stop,
                created_at=now,
                started_at=now,
            ),
            None,
            trial=request.number,
        )
        self._notifier.notify(topic(sweep.id))
        return Trial(
            run_id=added.id,
            token=self._tokens.make(added.id, added.attempt),
            state=added.state,
        )
