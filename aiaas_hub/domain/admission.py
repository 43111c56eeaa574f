"""The queue as it stands: what the records and the engine say, judged by `queueing`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiaas_hub.domain.forecasting import forecast
from aiaas_hub.domain.holdings import Contender
from aiaas_hub.domain.ports import Capacity, TrainingEngine
from aiaas_hub.domain.queueing import QueueRules, Verdict, beyond, beyond_capacity, decide, quota
from aiaas_hub.domain.quotas import Budgets
from aiaas_hub.domain.records import RunRecords
from aiaas_hub.schemas.errors import InvalidInput, TooMany, Unavailable
from aiaas_hub.schemas.platform import EngineState
from aiaas_hub.schemas.runs import QueuePlace, Quota, Run, RunCreate, RunKind, RunState
from aiaas_hub.schemas.usage import Allowance

_RECENT = 20
"""Runs from which the time of a start is told."""
_PAST = 200
"""Runs from which it is told how long runs take."""
_CANDIDATE = ""
"""Stands for a run that is not submitted yet; no run has this id."""


@dataclass(frozen=True)
class Queue:
    contenders: Sequence[Contender]
    verdicts: Mapping[str, Verdict]
    """Of those that wait, in the order of the queue."""
    now: datetime
    reason: str
    """Why the engine takes no run at all; empty if it does."""
    capacity: Capacity
    last_starts: Mapping[str, datetime]


class Admission:
    def __init__(
        self,
        records: RunRecords,
        engine: TrainingEngine,
        rules: QueueRules,
        max_queued: int,
        budgets: Budgets | None = None,
    ) -> None:
        self._budgets = budgets
        self._records = records
        self._engine = engine
        self._rules = rules
        self._max_queued = max_queued

    def look(self, candidate: Contender | None = None) -> Queue:
        """Everything that waits, and what for."""
        now = datetime.now(UTC)
        contenders = list(self._records.contenders())
        if candidate is not None:
            contenders.append(candidate)
        reason, capacity = self._engine_state()
        starts = self._records.last_starts(now - self._rules.patience)
        verdicts = decide(contenders, self._rules, capacity, now, starts, reason)
        return Queue(contenders, verdicts, now, reason, capacity, starts)

    def placed(self, runs: Sequence[Run]) -> list[Run]:
        """The same runs; those that are queued with their places."""
        queued = [run.id for run in runs if run.state is RunState.QUEUED]
        if not queued:
            return list(runs)
        queue = self.look()
        verdicts = self._foretold(queue, queued)
        placed = []
        for run in runs:
            place = verdicts.get(run.id)
            if run.state is RunState.QUEUED and place is not None:
                run = run.model_copy(update={"queue": place, "reason": place.blocked_by})
            placed.append(run)
        return placed

    def require_possible(self, owner: str, request: RunCreate) -> None:
        """Raise `InvalidInput` for a run that no wait would start, and `TooMany` where the
        owner's line is full, `Forbidden` where the hours that it takes are used up."""
        concurrency = 1 if request.sweep is None else request.sweep.concurrency
        for limits in (self._rules.own(owner), self._rules.in_all):
            sentence = beyond(request.resources, concurrency, limits)
            if sentence:
                raise InvalidInput(
                    sentence, remedy="Ask for less, or ask the operator for a larger quota."
                )
        if self._budgets is not None:
            self._budgets.require_run(owner, request.resources)
        if self._records.count_queued(owner) >= self._max_queued:
            raise TooMany(
                f"You have {self._max_queued} runs in the queue already.",
                remedy="Wait for some to start, or cancel some: see %aiaas runs.",
            )

    def require_room(self, request: RunCreate) -> None:
        """Raise `InvalidInput` for a run that asks for more than the engine has in all; nothing
        while that is not known."""
        reason, capacity = self._engine_state()
        if reason:
            return
        concurrency = 1 if request.sweep is None else request.sweep.concurrency
        found = beyond_capacity(request.resources, concurrency, capacity)
        if found is not None:
            sentence, remedy = found
            raise InvalidInput(sentence, remedy=remedy)

    def judge(self, owner: str, request: RunCreate) -> tuple[QueuePlace | None, Quota]:
        """The place that a run submitted now would have, None if it would start, and what its
        owner holds."""
        candidate = Contender(
            id=_CANDIDATE,
            owner=owner,
            order=2**62,
            started=False,
            reason="",
            since=datetime.now(UTC),
            priority=request.priority,
            resources=request.resources,
            concurrency=1 if request.sweep is None else request.sweep.concurrency,
            name=request.name,
            time_limit=request.time_limit,
        )
        queue = self.look(candidate)
        used = quota(queue.contenders, owner, self._rules.own(owner))
        return self._foretold(queue, [_CANDIDATE])[_CANDIDATE], used

    def hours(self, owner: str, request: RunCreate) -> list[Allowance]:
        """The budgets of hours that such a run uses."""
        return [] if self._budgets is None else self._budgets.hours(owner, request.resources)

    def quota(self, owner: str) -> Quota:
        return quota(self._records.contenders(), owner, self._rules.own(owner))

    def warm(self, request: RunCreate | Run) -> bool:
        """Whether workers wait that this run would begin on."""
        if request.kind is not RunKind.TRAIN:
            return False  # trials and transforms have workers of their own
        try:
            return self._engine.warm(request.resources)
        except Unavailable:
            return False

    def seconds_to_start(self, place: QueuePlace | None, warm: bool) -> float | None:
        """Until the first worker's call of `train`: the wait in this place, and the median of
        recent starts, of warm ones or cold ones as far as there are any."""
        times = self._records.start_times(_RECENT, warm) or self._records.start_times(_RECENT)
        waits = 0.0 if place is None else place.expected_seconds
        if not times or waits is None:
            return None
        return round(waits + statistics.median(time.total_seconds() for time in times), 1)

    def _foretold(self, queue: Queue, wanted: Sequence[str]) -> dict[str, QueuePlace | None]:
        """The places of these runs, as far as they wait, with the expected time of their turn."""
        places = {
            run_id: queue.verdicts[run_id].place for run_id in wanted if run_id in queue.verdicts
        }
        waiting = [run_id for run_id, place in places.items() if place is not None]
        if not waiting or queue.reason:
            return places
        found = forecast(
            waiting,
            queue.contenders,
            self._rules,
            queue.capacity,
            queue.now,
            queue.last_starts,
            self._records.past(_PAST),
        )
        return {
            run_id: place and place.model_copy(update={"expected_seconds": found.get(run_id)})
            for run_id, place in places.items()
        }

    def _engine_state(self) -> tuple[str, Capacity]:
        nothing = Capacity(cpus=0, gpus=0)
        health = self._engine.health()
        if health.state is not EngineState.READY:
            return health.reason or "Ray is not up", nothing
        try:
            return "", self._engine.capacity()
        except Unavailable as error:
            return error.message, nothing
