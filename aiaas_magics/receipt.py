"""The receipt of `--plan`: what would be sent and what would happen, before anything is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiaas_hub.schemas import runs as wire
from aiaas_magics import display
from aiaas_magics.display import Rich
from aiaas_magics.environment import Difference, differences
from aiaas_magics.request import Request
from aiaas_magics.snapshot import Code
from aiaas_magics.snapshot.captures import Capture

if TYPE_CHECKING:
    from aiaas_hub.schemas.transforms import TransformSpec
    from aiaas_hub.schemas.usage import Allowance

_SHOWN = 8


class Receipt(Rich):
    """What a submission would be; nothing has been sent but the question.

    `.problems` are sentences about what the platform or the code does not allow; with none of
    them the run can be submitted.
    """

    def __init__(
        self,
        request: Request,
        code: Code | None,
        captured: Sequence[Capture],
        plan: wire.RunPlan | None,
        problems: Sequence[str],
        notes: Sequence[str] = (),
        sweep: wire.SweepSpec | None = None,
        transform: TransformSpec | None = None,
    ) -> None:
        self.name = request.name
        self.request = request
        self.code = code
        self.captured = list(captured)
        self.plan = plan
        self.sweep = sweep
        self.transform = transform
        self.problems = list(problems)
        if plan is not None and plan.queue is not None and plan.queue.never:
            self.problems.append(f"It would never start: it {plan.queue.blocked_by}.")
        self.notes = list(notes)

    @property
    def ok(self) -> bool:
        """Whether it can be submitted as it is."""
        return not self.problems

    @property
    def bytes(self) -> int:
        """How many would be sent, were none of them there already."""
        return len(self.code.content) if self.code else 0

    @property
    def differences(self) -> list[Difference]:
        """Imported distributions that the workers have in another version, or not at all."""
        there = self.plan.environment if self.plan else None
        return differences(self.code.packages, there) if there and self.code else []

    def _facts(self) -> list[tuple[str, str]]:
        return [
            ("problems", " ".join(self.problems)),
            ("captured", self._captured()),
            ("warnings", " ".join(self._warnings())),
            ("code", self._code()),
            ("left out", self._left_out()),
            ("environment", self._environment()),
            ("sweep", self._sweep()),
            ("makes", ", ".join(self.transform.names) if self.transform else ""),
            *self._service(),
            ("next", "submit it: the same without plan" if self.ok else "correct it and ask again"),
        ]

    def _warnings(self) -> list[str]:
        # What cannot travel is among the problems.
        found = [one for one in self.captured if one.severity == "warning"]
        return [*(f"{one.problem} {one.remedy}".strip() for one in found), *self.notes]

    def _captured(self) -> str:
        shown = [
            f"{one.name} ({one.type}{f', {display.size(one.size)}' if one.size else ''})"
            for one in self.captured[:_SHOWN]
            if one.type
        ]
        more = len(self.captured) - _SHOWN
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")

    def _code(self) -> str:
        if self.code is None:
            return ""
        files = self.code.files
        largest = ", ".join(f"{f.name} ({display.size(f.size)})" for f in files[:_SHOWN])
        more = f", and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
        total = display.size(self.bytes)
        return f"{self.code.kind}, {total} in {len(files)} files: {largest}{more}"

    def _left_out(self) -> str:
        left = self.code.left_out if self.code else ()
        shown = [f"{f.name} ({display.size(f.size)}) {f.why}" for f in left[:_SHOWN]]
        more = f"; and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        return "; ".join(shown) + more

    def _environment(self) -> str:
        if self.code is None:
            return ""
        there = self.plan.environment if self.plan else None
        if there is None:
            return "not known"
        missing = [f"{name} is not installed here" for name in self.code.missing]
        found = [str(difference) for difference in self.differences] + missing
        told = f"as here: Python {there.python}, aiaas-hub {there.client}"
        since = f" (as a run there told {display.ago(there.told_at)})" if there.told_at else ""
        return ("; ".join(found) or told) + since

    def _sweep(self) -> str:
        if self.sweep is None:
            return ""
        return f"{self.sweep.trials} trials, {self.sweep.concurrency} at the same time"

    def _service(self) -> list[tuple[str, str]]:
        if self.plan is None:
            return []
        plan, resources = self.plan, self.plan.resources
        gpus = f", {_count(resources.gpus_per_worker, 'GPU')}" if resources.gpus_per_worker else ""
        count = _count(resources.workers, "worker")
        asked = f"{count}, each {_count(resources.cpus_per_worker, 'CPU')}{gpus}"
        quota = [
            f"{label} {_left(used)}"
            for label, used in (
                ("runs", plan.quota.runs),
                ("workers", plan.quota.workers),
                ("GPUs", plan.quota.gpus),
            )
        ]
        quota += [_hours_left(allowance) for allowance in plan.hours]
        return [
            ("datasets", ", ".join(map(str, plan.datasets))),
            ("resources", asked),
            ("queue", _place(plan.queue)),
            ("quota left", ", ".join(quota)),
            ("start", _start(plan)),
        ]

    def _state(self) -> str:
        return "ready" if self.ok else "failed"

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts() if value]
        return display.card(f"Plan of {self.name}", self._state(), facts)

    def _text(self) -> str:
        return display.text_card(f"Plan of {self.name}", self._state(), self._facts())


def _count(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'s' if number != 1 else ''}"


def _left(used: wire.Used) -> str:
    if used.limit is None:
        return "not limited"
    return f"{max(0, used.limit - used.used):g} of {used.limit:g}"


def _hours_left(allowance: Allowance) -> str:
    left = max(0.0, allowance.limit - allowance.used)
    whose = f" with the group {allowance.group}" if allowance.group else ""
    return f"{allowance.name}{whose} {left:.4g} of {allowance.limit:.4g}"


def _place(place: wire.QueuePlace | None) -> str:
    if place is None:
        return "starts at once"
    instead = f" ({place.remedy})" if place.remedy else ""
    return f"place {place.position}: {place.blocked_by}{instead}"


def _start(plan: wire.RunPlan) -> str:
    if plan.expected_start_seconds is None:
        return "" if plan.queue is None else "when its turn comes; nobody knows when yet"
    about = f"in about {display.about(plan.expected_start_seconds)}"
    if plan.queue is not None:
        return f"{about}, if the runs before it take as long as runs usually do"
    return f"{about}, on workers that wait" if plan.warm else about
