"""The content of retired versions is deleted: written as an intent first, repeated until done."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from aiaas_hub.domain.data_ports import BlobStore
from aiaas_hub.domain.dataset_records import GarbageRecords

log = logging.getLogger(__name__)

_BATCH = 100
_PAUSE_SECONDS = 600.0
SETTLED = timedelta(hours=1)
"""Content that was stored or asked for since is left alone: somebody may be about to make a
version of it."""


class Collecting:
    def __init__(
        self,
        records: GarbageRecords,
        blobs: BlobStore,
        keep: timedelta,
        settled: timedelta = SETTLED,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._keep = keep
        self._settled = settled

    def work(self) -> float:
        """One look; seconds until the next."""
        now = datetime.now(UTC)
        for version in self._records.retired(now - self._keep):
            if self._records.collect(version, now):
                log.info(
                    "The content of %s/%s@%s is let go",
                    version.owner,
                    version.name,
                    version.version,
                )
        for version in self._records.collected(_BATCH):
            # Equal content is stored once: it may be another version's, a model's or a run's.
            if self._records.in_use(version.digest) or self._blobs.remove(
                version.digest, now - self._settled
            ):
                self._records.removed(version, now)
        return _PAUSE_SECONDS
