"""Lineage: endpoint ← model ← run ← code and data ← what that was made of, as far as the asker
may read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from aiaas_hub.domain.access import Asker
from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.endpoints import Endpoints
from aiaas_hub.domain.lineage_nodes import nodes
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.runs import Runs
from aiaas_hub.schemas.datasets import Origin
from aiaas_hub.schemas.errors import NotFound
from aiaas_hub.schemas.lineage import DatasetLineage, Lineage, LineageStep
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.runs import PinnedDataset, Run

MAX_STEPS = 200
"""Versions in the lineage of one."""


class Lineages:
    def __init__(
        self, endpoints: Endpoints, models: Models, runs: Runs, datasets: Datasets
    ) -> None:
        self._endpoints = endpoints
        self._models = models
        self._runs = runs
        self._datasets = datasets

    def of_run(self, run_id: str, asker: Asker) -> Lineage:
        return self._told(self._of_run(run_id), asker)

    def of_model(self, owner: str, name: str, version: int | None, asker: Asker) -> Lineage:
        return self._told(self._of_model(owner, name, version, asker), asker)

    def of_endpoint(self, owner: str, name: str, version: int | None, asker: Asker) -> Lineage:
        """Of the version asked for, else of the newest with traffic, else of the newest."""
        endpoint = self._endpoints.get(owner, name)
        wanted = version or max(endpoint.traffic, default=endpoint.versions[0].version)
        for candidate in endpoint.versions:
            if candidate.version == wanted:
                model = candidate.model
                lineage = self._of_model(model.owner, model.name, model.version, asker)
                found = {"endpoint": f"{owner}/{name}", "endpoint_version": wanted}
                return self._told(lineage.model_copy(update=found), asker)
        raise NotFound(
            f"Endpoint {name} has no version {wanted}.", remedy=f"See %aiaas endpoint {name}."
        )

    def of_dataset(
        self, owner: str, name: str, version: int | str | None, asker: Asker
    ) -> DatasetLineage:
        """Raises `NotFound` for a version that the asker may not read."""
        number = self._datasets.get(owner, name, asker, version).latest.version
        first = PinnedDataset(owner=owner, name=name, version=number)
        steps, truncated = self._steps([first], asker)
        return DatasetLineage(steps=steps, nodes=nodes(Lineage(), steps), truncated=truncated)

    def _of_run(self, run_id: str) -> Lineage:
        run = self._runs.get(run_id)
        return Lineage(model=run.model, run=run, datasets=run.datasets)

    def _of_model(self, owner: str, name: str, version: int | None, asker: Asker) -> Lineage:
        pinned = {"owner": owner, "name": name}
        if not asker.may_read(owner):
            # An endpoint may serve somebody else's model: its name is no secret then, and the
            # code, parameters and data behind it are still its owner's.
            return Lineage.model_validate({"model": {**pinned, "version": version}})
        found = self._models.get(owner, name, version).latest
        lineage = Lineage() if found.run_id is None else self._of_run(found.run_id)
        model = PinnedModel(**pinned, version=found.version)
        return lineage.model_copy(update={"model": model})

    def _told(self, lineage: Lineage, asker: Asker) -> Lineage:
        steps, truncated = self._steps(lineage.datasets, asker)
        found = {"nodes": nodes(lineage, steps), "truncated": truncated}
        return lineage.model_copy(update=found)

    def _steps(
        self, first: Sequence[PinnedDataset], asker: Asker
    ) -> tuple[list[LineageStep], bool]:
        """The nearest first, and each once: two parts of a split have one source. Whether there
        are more."""
        seen = {str(one): one for one in first}
        waiting = deque(seen.values())
        steps: list[LineageStep] = []
        while waiting and len(steps) < MAX_STEPS:
            step = self._step(waiting.popleft(), asker)
            steps.append(step)
            for one in step.origin.inputs if step.origin is not None else ():
                if str(one) not in seen:
                    seen[str(one)] = one
                    waiting.append(one)
        return steps, bool(waiting)

    def _step(self, pinned: PinnedDataset, asker: Asker) -> LineageStep:
        found = self._datasets.find(pinned, asker)
        if found is None:
            return LineageStep(dataset=pinned, readable=False)
        return LineageStep(
            dataset=pinned,
            rows=found.rows,
            created_at=found.created_at,
            retired=found.retired,
            source=found.source,
            origin=found.origin,
            run=self._run(found.origin, asker),
        )

    def _run(self, origin: Origin | None, asker: Asker) -> Run | None:
        """A dataset may be shared; the code that made it stays its owner's."""
        if origin is None or origin.run is None:
            return None
        run = self._runs.get(origin.run)
        return run if asker.may_read(run.owner) else None
