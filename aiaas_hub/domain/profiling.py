"""Profiles of dataset versions, computed in the background and kept."""

from __future__ import annotations

import logging
import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiaas_hub.domain.data_ports import BlobStore, QueryEngine, QuerySession
from aiaas_hub.domain.dataset_records import ProfileRecords
from aiaas_hub.domain.ports import Notifier
from aiaas_hub.domain.querying import identifier
from aiaas_hub.schemas.datasets import Column, Dataset, DatasetVersion
from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_hub.schemas.profiles import (
    ColumnProfile,
    Histogram,
    Kind,
    Lengths,
    Profile,
    ProfileState,
    ProfileStatus,
    ValueCount,
)

log = logging.getLogger(__name__)

SAMPLE_ROWS = 1_000_000
"""Of a version with more rows, about so many are looked at."""
MAX_ATTEMPTS = 3
_IDLE_SECONDS = 30.0
_BINS = 20
_FEW = 50
_TOP = 10
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TABLE = (None, "data")
_SAMPLE_BYTES = 4 << 30


class Profiling:
    def __init__(
        self,
        records: ProfileRecords,
        blobs: BlobStore,
        engine: QueryEngine,
        notifier: Notifier,
        sample_rows: int = SAMPLE_ROWS,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._engine = engine
        self._notifier = notifier
        self._sample_rows = sample_rows

    def status(self, dataset: Dataset) -> ProfileStatus:
        latest = dataset.latest
        return self._records.get(dataset.owner, dataset.name, latest.version) or ProfileStatus(
            owner=dataset.owner,
            name=dataset.name,
            version=latest.version,
            state=ProfileState.NONE,
            total=len(latest.columns),
        )

    def request(self, dataset: Dataset) -> ProfileStatus:
        """Write the intent to compute it, unless it is computed or about to be. One that failed
        is tried again."""
        latest = dataset.latest
        return self._records.request(
            dataset.owner,
            dataset.name,
            latest.version,
            len(latest.columns),
            datetime.now(UTC),
        )

    def work(self) -> float:
        """Compute the oldest profile that is asked for; seconds until there may be another.

        One that was begun and not ended is of a service that was killed: this is called by one
        thread only.
        """
        waiting = self._records.next()
        if waiting is None:
            return _IDLE_SECONDS
        dataset, attempt = waiting
        at = (dataset.owner, dataset.name, dataset.latest.version)
        if attempt >= MAX_ATTEMPTS:
            self._records.fail(*at, "The service ended each time that this profile was begun.")
            return 0.0
        self._records.begin(*at)
        try:
            profile = self._profile(dataset)
        except AiaasError as error:
            self._records.fail(*at, f"{error.message} {error.remedy}".strip())
        except Exception:
            log.exception("The profile of %s/%s@%s failed", *at)
            self._records.fail(*at, "Something went wrong on the platform's side.")
        else:
            self._records.finish(*at, profile)
        self._notifier.notify(topic(dataset))
        return 0.0

    def _profile(self, dataset: Dataset) -> Profile:
        version = dataset.latest
        file = self._blobs.local_path(version.digest)
        with tempfile.TemporaryDirectory(prefix="aiaas-profile-") as directory:
            if version.rows > self._sample_rows:
                file = self._sample(version, file, Path(directory) / "sample.parquet")
            with self._engine.session() as session:
                session.attach({_TABLE: file})
                looked_at, duplicates = _count(session)
                columns = []
                for column in version.columns:
                    columns.append(_column(session, column))
                    self._records.progress(
                        dataset.owner, dataset.name, version.version, len(columns)
                    )
                    self._notifier.notify(topic(dataset))
        return Profile(
            rows=version.rows, looked_at=looked_at, duplicates=duplicates, columns=columns
        )

    def _sample(self, version: DatasetVersion, file: Path, target: Path) -> Path:
        percent = 100 * self._sample_rows / version.rows
        sql = f"SELECT * FROM data TABLESAMPLE bernoulli({percent:.12f}%)"  # noqa: S608 - a number
        with self._engine.session() as session:
            session.attach({_TABLE: file})
            session.write(
                sql, target, rows=None, size=_SAMPLE_BYTES, memory=16 * _SAMPLE_BYTES, like=file
            )
        return target


def topic(dataset: Dataset) -> str:
    return f"profiles/{dataset.owner}/{dataset.name}/{dataset.latest.version}"


def _count(session: QuerySession) -> tuple[int, int]:
    ((rows, distinct),) = session.rows(
        "SELECT count(*), count(DISTINCT hash(data)) FROM data", 1
    ).rows
    return rows, rows - distinct


def kind_of(type_: str) -> Kind:
    """What figures a column of this Arrow type has."""
    name = type_.partition("<")[0].partition("[")[0].partition("(")[0]
    if name == "dictionary":
        return kind_of(type_.partition("values=")[2].partition(",")[0])
    kinds: dict[str, Kind] = {
        "bool": "boolean",
        "string": "text",
        "large_string": "text",
        "string_view": "text",
        "binary": "binary",
        "large_binary": "binary",
        "fixed_size_binary": "binary",
        "list": "list",
        "large_list": "list",
        "fixed_size_list": "list",
        "date32": "time",
        "date64": "time",
        "timestamp": "time",
    }
    numbers = ("int", "uint", "float", "double", "halffloat", "decimal", "duration")
    if name not in kinds and name.startswith(numbers):
        return "number"
    return kinds.get(name, "other")


def _column(session: QuerySession, column: Column) -> ColumnProfile:
    profile = ColumnProfile(name=column.name, type=column.type, kind=kind_of(column.type))
    name = identifier(column.name)
    try:
        ((profile.nulls,),) = session.rows(
            f"SELECT count(*) - count({name}) FROM data",  # noqa: S608 - an identifier
            1,
        ).rows
        _DESCRIBED[profile.kind](session, name, profile)
    except InvalidInput as error:
        # One column of an odd type does not keep the others from being described.
        log.info("A column of type %s is not described: %s", column.type, error.message)
        profile.note = "not described"
    return profile


def _one(session: QuerySession, chosen: str, where: str = "true") -> list[Any]:
    row: list[Any] = session.rows(
        f"SELECT {chosen} FROM data WHERE {where}",  # noqa: S608 - identifiers of ours
        1,
    ).rows[0]
    return row


def _numbers(session: QuerySession, name: str, profile: ColumnProfile) -> None:
    real = profile.type in ("float", "double", "halffloat")
    finite = f"isfinite({name})" if real else f"{name} IS NOT NULL"
    value = f"CAST({name} AS DOUBLE)"
    shares = ", ".join(map(str, _SHARES))
    count, least, most, mean, deviation, quantiles, distinct = _one(
        session,
        f"count(*), min({name}), max({name}), avg({value}), stddev_samp({value}), "
        f"approx_quantile({value}, [{shares}]), approx_count_distinct({name})",
        finite,
    )
    if real:
        profile.not_finite = _one(session, f"count({name})")[0] - count
    profile.distinct, profile.least, profile.most = distinct, least, most
    profile.mean, profile.deviation = _finite(mean), _finite(deviation)
    if count:
        profile.quantiles = {
            str(share): float(found) for share, found in zip(_SHARES, quantiles, strict=True)
        }
        profile.histogram = _histogram(session, value, finite)
    if not real:
        _values(session, name, profile)


def _texts(session: QuerySession, name: str, profile: ColumnProfile) -> None:
    _measured(session, f"length({name})", name, profile)
    profile.distinct = _one(session, f"approx_count_distinct({name})")[0]
    _values(session, f"left({name}, 200)", profile)


def _booleans(session: QuerySession, name: str, profile: ColumnProfile) -> None:
    _values(session, name, profile)


def _times(session: QuerySession, name: str, profile: ColumnProfile) -> None:
    profile.least, profile.most, profile.distinct = _one(
        session, f"min({name}), max({name}), approx_count_distinct({name})"
    )
    if profile.least is not None:
        profile.histogram = _histogram(session, f"epoch({name})", f"isfinite({name})")


def _lists(session: QuerySession, name: str, profile: ColumnProfile) -> None:
    _measured(session, f"len({name})", name, profile)


def _binaries(session: QuerySession, name: str, profile: ColumnProfile) -> None:
    _measured(session, f"octet_length({name})", name, profile)
    profile.distinct = _one(session, f"approx_count_distinct({name})")[0]


def _others(session: QuerySession, name: str, profile: ColumnProfile) -> None:
    """Nulls are all there is to say."""


_DESCRIBED = {
    "number": _numbers,
    "text": _texts,
    "boolean": _booleans,
    "time": _times,
    "list": _lists,
    "binary": _binaries,
    "other": _others,
}


def _measured(session: QuerySession, length: str, name: str, profile: ColumnProfile) -> None:
    least, mean, most = _one(
        session, f"min({length}), avg({length}), max({length})", f"{name} IS NOT NULL"
    )
    if least is not None:
        profile.lengths = Lengths(least=least, mean=mean, most=most)


def _values(session: QuerySession, value: str, profile: ColumnProfile) -> None:
    """The most frequent values and, where they are few, how evenly they are spread."""
    rows = session.rows(
        f"SELECT {value} AS value, count(*) AS n FROM data "  # noqa: S608 - identifiers of ours
        f"WHERE {value} IS NOT NULL GROUP BY 1 ORDER BY n DESC, value LIMIT {_FEW + 1}",
        _FEW + 1,
    ).rows
    profile.top = [ValueCount(value=found, count=count) for found, count in rows[:_TOP]]
    if 0 < len(rows) <= _FEW:
        profile.distinct = len(rows)
        profile.balance = balance([count for _, count in rows])


def balance(counts: list[int]) -> float | None:
    """Shannon's entropy of the counts, divided by that of as many equal ones; None for one."""
    if len(counts) < 2:
        return None
    total = sum(counts)
    entropy = -sum(count / total * math.log(count / total) for count in counts)
    return min(1.0, entropy / math.log(len(counts)))


def _histogram(session: QuerySession, value: str, where: str) -> Histogram | None:
    least, most = _one(session, f"min({value}), max({value})", where)
    least, most = _finite(least), _finite(most)
    if least is None or most is None or not math.isfinite(most - least):
        return None
    if least == most:
        count = _one(session, "count(*)", where)[0]
        return Histogram(edges=[least, most], counts=[count])
    width = (most - least) / _BINS
    place = f"least({_BINS - 1}, CAST(floor(({value} - {least!r}) / {width!r}) AS BIGINT))"
    rows = session.rows(
        f"SELECT {place} AS place, count(*) FROM data WHERE {where} GROUP BY 1",  # noqa: S608
        _BINS + 1,
    ).rows
    counts = dict(rows)
    edges = [least + width * step for step in range(_BINS)] + [most]
    return Histogram(edges=edges, counts=[counts.get(step, 0) for step in range(_BINS)])


def _finite(value: Any) -> float | None:
    """JSON names what is not finite; here it is nothing to draw."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
