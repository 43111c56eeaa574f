"""Transforms: runs that make dataset versions. They commit what they made by their run token."""

from __future__ import annotations

from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.records import BlobGrants, RunRecords
from aiaas_hub.schemas.datasets import Dataset, Origin
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound
from aiaas_hub.schemas.runs import PinnedDataset, Run, RunKind
from aiaas_hub.schemas.transforms import TransformResult


class Transforms:
    def __init__(self, records: RunRecords, datasets: Datasets, grants: BlobGrants) -> None:
        self._records = records
        self._datasets = datasets
        self._grants = grants

    def commit(self, run: Run, attempt: int, result: TransformResult) -> list[Dataset]:
        """Make the versions that the run is for, all or none; a repeat, of another attempt too,
        gives the same ones.

        Raises `InvalidInput` unless the result is of just the datasets that the run names, and
        `Conflict` for a run that is to stop.
        """
        if run.kind is not RunKind.TRANSFORM or run.transform is None:
            raise InvalidInput("Only a transform makes datasets.")
        if set(result.contents) != set(run.transform.names):
            raise InvalidInput(f"This transform makes {', '.join(run.transform.names)}.")
        for digest in result.contents.values():
            if not self._grants.granted(run.owner, digest):
                raise NotFound("There is no such upload.", remedy="Upload the data again.")
        live = self._records.live(run.id)
        if live is None or live.cancel_requested or live.stop_error is not None:
            # Whoever stops a run does not expect a version of it a moment later.
            raise Conflict("The run is to stop.", remedy="Stop.")
        made = self._datasets.add_made(
            run.owner,
            {name: result.contents[name] for name in run.transform.names},
            Origin(kind="run", by=run.owner, run=run.id, inputs=run.datasets),
            # Of the run, not of its attempt: one whose end was not heard of begins again.
            f"run/{run.id}",
        )
        pinned = [
            PinnedDataset(owner=one.owner, name=one.name, version=one.latest.version)
            for one in made
        ]
        self._records.set_made(run.id, attempt, pinned)
        return made
