"""What is different between two versions of a dataset."""

from __future__ import annotations

from aiaas_hub.domain.access import Asker
from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.profiling import Profiling
from aiaas_hub.schemas.datasets import ColumnChange, Dataset, Diff
from aiaas_hub.schemas.profiles import ColumnProfile, Histogram, Profile
from aiaas_hub.schemas.runs import PinnedDataset

_LEAST_SHIFT = 0.02
"""What is below is the noise of estimates."""


class Comparing:
    def __init__(self, datasets: Datasets, profiling: Profiling) -> None:
        self._datasets = datasets
        self._profiling = profiling

    def diff(
        self,
        owner: str,
        name: str,
        before: int | str | None,
        after: int | str | None,
        asker: Asker,
    ) -> Diff:
        """Raises `NotFound` for a version that is not there."""
        new = self._datasets.get(owner, name, asker, after)
        old = self._datasets.get(owner, name, asker, before or self._former(new, asker))
        first = {column.name: column for column in old.latest.columns}
        second = {column.name: column for column in new.latest.columns}
        profiles = [self._profiling.status(dataset).profile for dataset in (old, new)]
        return Diff(
            before=_pinned(old),
            after=_pinned(new),
            same_content=old.latest.digest == new.latest.digest,
            rows_before=old.latest.rows,
            rows_after=new.latest.rows,
            added=[column for name, column in second.items() if name not in first],
            removed=[column for name, column in first.items() if name not in second],
            retyped=[
                (first[name], column)
                for name, column in second.items()
                if name in first and first[name].type != column.type
            ],
            profiled=all(profiles),
            changes=[] if None in profiles else changes(*profiles),  # type: ignore[arg-type]  # none is None
        )

    def _former(self, dataset: Dataset, asker: Asker) -> int:
        """The newest one before it that can be used, or itself where there is none."""
        page = self._datasets.versions(
            dataset.owner, dataset.name, asker, str(dataset.latest.version), 500
        )
        return next((v.version for v in page.items if not v.retired), dataset.latest.version)


def _pinned(dataset: Dataset) -> PinnedDataset:
    return PinnedDataset(owner=dataset.owner, name=dataset.name, version=dataset.latest.version)


def changes(before: Profile, after: Profile) -> list[ColumnChange]:
    former = {column.name: column for column in before.columns}
    found = []
    for column in after.columns:
        old = former.get(column.name)
        if old is None:
            continue
        change = ColumnChange(
            name=column.name,
            shift=shift(old, column),
            missing_before=_share(old.nulls, before.looked_at),
            missing_after=_share(column.nulls, after.looked_at),
            mean_before=old.mean,
            mean_after=column.mean,
        )
        missing = abs(change.missing_after - change.missing_before)
        if change.shift >= _LEAST_SHIFT or missing >= _LEAST_SHIFT:
            found.append(change)
    return sorted(found, key=lambda change: -change.shift)


def shift(before: ColumnProfile, after: ColumnProfile) -> float:
    """0: the same distribution, 1: nothing in common; as far as the profiles tell."""
    few = before.balance is not None and after.balance is not None
    if before.histogram is not None and after.histogram is not None and not few:
        return _largest_difference(before.histogram, after.histogram)
    if before.top and after.top:
        return _total_variation(before, after)
    return 0.0


def _largest_difference(before: Histogram, after: Histogram) -> float:
    """Kolmogorov-Smirnov, with values spread evenly in each bin."""
    points = sorted({*before.edges, *after.edges})
    return max(abs(_below(before, point) - _below(after, point)) for point in points)


def _below(histogram: Histogram, point: float) -> float:
    """The share of values that are at most `point`."""
    total = sum(histogram.counts) or 1
    below = 0.0
    for position, count in enumerate(histogram.counts):
        low, high = histogram.edges[position], histogram.edges[position + 1]
        if point >= high:
            below += count
        elif point > low:
            below += count * (point - low) / (high - low)
    return below / total


def _total_variation(before: ColumnProfile, after: ColumnProfile) -> float:
    shares = []
    for column in (before, after):
        counts = {str(top.value): top.count for top in column.top}
        total = sum(counts.values()) or 1
        shares.append({value: count / total for value, count in counts.items()})
    first, second = shares
    values = {*first, *second}
    return sum(abs(first.get(v, 0.0) - second.get(v, 0.0)) for v in values) / 2


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0
