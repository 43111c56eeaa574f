"""When a run's metric says that going on brings nothing more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiaas_hub.schemas.runs import EarlyStop


class EarlyStopping:
    """Follows the reports of one worker by the run's rule.

    A report counts when it has the rule's metric. It is an improvement when the value is better
    than the best so far by more than `min_delta`; NaN never is.
    """

    def __init__(self, rule: EarlyStop) -> None:
        self._rule = rule
        self._best: float | None = None
        self._without = 0
        self._came = False
        self._others: dict[str, None] = {}
        self.reason: str | None = None
        """Why to stop, in a sentence; None while there is no reason. Never taken back."""

    def observe(self, values: Mapping[str, float]) -> None:
        rule = self._rule
        value = values.get(rule.metric)
        if value is None:
            self._others |= dict.fromkeys(values)
            return
        self._came = True
        if self.reason is not None:
            return
        if self._reached(value):
            self.reason = f"{rule.metric} reached {value:.6g} (the threshold is {rule.threshold:g})"
            return
        if self._improves(value):
            self._best, self._without = value, 0
            return
        self._without += 1
        if self._without >= rule.patience:
            best = "no number" if self._best is None else f"{self._best:.6g}"
            self.reason = (
                f"{rule.metric} has not improved in {self._without} reports (best: {best})"
            )

    @property
    def in_vain(self) -> str:
        """At the end: that the metric never came, in a sentence; empty if it did."""
        if self._came:
            return ""
        known = f"; they had {', '.join(self._others)}" if self._others else ""
        return f"early stop waited in vain: no report had {self._rule.metric!r}{known}"

    def _reached(self, value: float) -> bool:
        threshold = self._rule.threshold
        if threshold is None:
            return False
        return value >= threshold if self._rule.mode == "max" else value <= threshold

    def _improves(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self._best is None:
            return True
        gain = value - self._best if self._rule.mode == "max" else self._best - value
        return gain > self._rule.min_delta
