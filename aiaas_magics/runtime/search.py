"""Which parameters each trial of a sweep gets.

Trials are numbered from 0. A driver that takes a sweep up again after the former one died asks
for the same numbers, and for grid and random search gets the same parameters: they depend on
nothing but the sweep and the number. A Bayesian search is told what there is already.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from aiaas_hub.schemas.runs import Distribution, ParamValue, SweepSpec

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Params = dict[str, ParamValue]


class Search(Protocol):
    def params(self, number: int) -> Params:
        """The parameters of a trial that begins now."""

    def known(self, number: int, params: Params) -> None:
        """A trial that an earlier driver began had these; called before any of `params`."""

    def finished(self, number: int, value: float | None) -> None:
        """What a trial came to; None for one that failed."""


def search_of(spec: SweepSpec, run_id: str) -> Search:
    if spec.search == "bayesian":
        return Bayesian(spec, run_id)
    if spec.search == "grid":
        return Grid(spec)
    return Random(spec, run_id)


class Grid:
    """Every combination, the last parameter changing fastest."""

    def __init__(self, spec: SweepSpec) -> None:
        axes = [axis(distribution) for distribution in spec.space.values()]
        self._points = [
            dict(zip(spec.space, point, strict=True)) for point in itertools.product(*axes)
        ]

    def params(self, number: int) -> Params:
        return self._points[number]

    def known(self, number: int, params: Params) -> None:
        """A grid is what it is."""

    def finished(self, number: int, value: float | None) -> None:
        """Likewise."""


class Random:
    def __init__(self, spec: SweepSpec, run_id: str) -> None:
        self._space = spec.space
        self._seed = run_id

    def params(self, number: int) -> Params:
        source = random.Random(f"{self._seed}/{number}")  # noqa: S311  # guards no secret
        return {name: _draw(where, source) for name, where in self._space.items()}

    def known(self, number: int, params: Params) -> None:
        """The same number gives the same parameters again."""

    def finished(self, number: int, value: float | None) -> None:
        """Chance learns nothing."""


class Bayesian:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011)."""

    def __init__(self, spec: SweepSpec, run_id: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = {name: _optuna(where) for name, where in spec.space.items()}
        seed = random.Random(run_id).getrandbits(32)  # noqa: S311  # guards no secret
        self._study = optuna.create_study(
            direction="maximize" if spec.mode == "max" else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed),
        )
        self._trials: dict[int, optuna.Trial] = {}

    def params(self, number: int) -> Params:
        if number not in self._trials:
            self._trials[number] = self._study.ask(self._space)
        return dict(self._trials[number].params)

    def known(self, number: int, params: Params) -> None:
        self._study.enqueue_trial({name: params[name] for name in self._space})
        self._trials[number] = self._study.ask(self._space)

    def finished(self, number: int, value: float | None) -> None:
        from optuna.trial import TrialState

        trial = self._trials[number]
        if value is None or not math.isfinite(value):
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self._study.tell(trial, value, skip_if_finished=True)


def axis(distribution: Distribution) -> list[ParamValue]:
    """The values that a grid takes of a choice or of whole numbers."""
    if distribution.kind == "int":
        low, high = _bounds(distribution)
        return list(range(int(low), int(high) + 1))
    return list(distribution.values)


def _draw(where: Distribution, source: random.Random) -> ParamValue:
    if where.kind == "choice":
        return source.choice(where.values)
    low, high = _bounds(where)
    if where.kind == "int":
        return source.randint(int(low), int(high))
    if where.kind == "log":
        drawn = math.exp(source.uniform(math.log(low), math.log(high)))
        # Rounding in between must not lead out of the range.
        return min(max(drawn, low), high)
    return source.uniform(low, high)


def _optuna(where: Distribution) -> BaseDistribution:
    from optuna import distributions

    if where.kind == "choice":
        return distributions.CategoricalDistribution(where.values)
    low, high = _bounds(where)
    if where.kind == "int":
        return distributions.IntDistribution(int(low), int(high))
    return distributions.FloatDistribution(low, high, log=where.kind == "log")


def _bounds(where: Distribution) -> tuple[float, float]:
    # The schema lets only a choice be without them.
    return where.low or 0.0, where.high or 0.0


def best(values: Mapping[int, float], mode: str) -> int | None:
    """The number of the best trial; one whose value is no number is never it."""
    sound = {number: value for number, value in values.items() if math.isfinite(value)}
    if not sound:
        return None
    choose = max if mode == "max" else min
    return choose(sound, key=lambda number: sound[number])
