"""Lineage: endpoint ← model ← run ← code and data, as far as the asker may read."""

from __future__ import annotations

from aiaas_hub.domain.datasets import MayRead
from aiaas_hub.domain.endpoints import Endpoints
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.runs import Runs
from aiaas_hub.schemas.errors import NotFound
from aiaas_hub.schemas.runs import Lineage


class Lineages:
    def __init__(self, endpoints: Endpoints, models: Models, runs: Runs) -> None:
        self._endpoints = endpoints
        self._models = models
        self._runs = runs

    def of_run(self, run_id: str) -> Lineage:
        run = self._runs.get(run_id)
        return Lineage(model=run.model, run=run, datasets=run.datasets)

    def of_model(self, owner: str, name: str, version: int | None, may_read: MayRead) -> Lineage:
        pinned = {"owner": owner, "name": name}
        if not may_read(owner):
            # An endpoint may serve somebody else's model: its name is no secret then, and the
            # code, parameters and data behind it are still its owner's.
            return Lineage.model_validate({"model": {**pinned, "version": version}})
        found = self._models.get(owner, name, version).latest
        lineage = Lineage() if found.run_id is None else self.of_run(found.run_id)
        model = {**pinned, "version": found.version}
        return Lineage.model_validate({**lineage.model_dump(), "model": model})

    def of_endpoint(self, owner: str, name: str, version: int | None, may_read: MayRead) -> Lineage:
        """Of the version asked for, else of the newest with traffic, else of the newest."""
        endpoint = self._endpoints.get(owner, name)
        wanted = version or max(endpoint.traffic, default=endpoint.versions[0].version)
        for candidate in endpoint.versions:
            if candidate.version == wanted:
                model = candidate.model
                lineage = self.of_model(model.owner, model.name, model.version, may_read)
                return lineage.model_copy(
                    update={"endpoint": f"{owner}/{name}", "endpoint_version": wanted}
                )
        raise NotFound(
            f"Endpoint {name} has no version {wanted}.", remedy=f"See %aiaas endpoint {name}."
        )
