"""Lineage: what a thing came from, endpoint ← model ← run ← code and data."""

from __future__ import annotations

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import NotFound
from aiaas_hub.schemas.names import parse_model
from aiaas_magics import display
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Rich


class Lineage(Rich):
    """A chain from a published thing back to its code and data."""

    def __init__(self, record: wire.Lineage) -> None:
        self._record = record

    @property
    def endpoint(self) -> str | None:
        return self._record.endpoint

    @property
    def endpoint_version(self) -> int | None:
        return self._record.endpoint_version

    @property
    def model(self) -> str | None:
        return str(self._record.model) if self._record.model else None

    @property
    def run(self) -> str | None:
        """The run's id."""
        return self._record.run.id if self._record.run else None

    @property
    def datasets(self) -> list[str]:
        return [str(dataset) for dataset in self._record.datasets]

    @property
    def source(self) -> str:
        """The training code as typed."""
        return self._record.run.snapshot.source if self._record.run else ""

    def _steps(self) -> list[tuple[str, str]]:
        record = self._record
        steps = []
        if record.endpoint is not None:
            version = f" version {record.endpoint_version}" if record.endpoint_version else ""
            steps.append(("endpoint", f"{record.endpoint}{version}"))
        if record.model is not None:
            steps.append(("model", str(record.model)))
        if record.run is not None:
            run = record.run
            steps.append(("run", f"{run.name} · {run.id} ({run.state}) by {run.owner}"))
            steps.append(("params", ", ".join(f"{k}={v}" for k, v in run.params.items())))
            steps.append(("code", f"sha256:{run.snapshot.digest[:12]}… {run.snapshot.entry}"))
        elif record.model is not None:
            steps.append(("run", "none: registered from a notebook's own object"))
        steps.append(("datasets", ", ".join(self.datasets)))
        return [(label, value) for label, value in steps if value]

    def _html(self) -> str:
        more = ""
        if self.source:
            more = (
                f"<details><summary>the code as typed</summary>{display.pre(self.source)}</details>"
            )
        facts = [(label, display.escape(value)) for label, value in self._steps()]
        return display.card("Lineage", None, facts, more)

    def _text(self) -> str:
        return display.text_card("Lineage", None, self._steps())


def lineage_of(thing: str, client: Client | None = None) -> Lineage:
    """Lineage of a run's id, an endpoint or a model, tried in this order.

    `endpoint:NAME` and `model:NAME` say which is meant where both have the name.
    """
    client = client or current_client()
    kind, colon, rest = thing.partition(":")
    if thing.startswith("run-") and "/" not in thing:
        try:
            return Lineage(client.runs.lineage(thing))
        except NotFound:
            # A model or an endpoint may have a name that begins like a run's id.
            pass
    known = kind in ("endpoint", "model") and bool(colon)
    reference, alias = parse_model(rest if known else thing)
    owner, name, version = reference.owner or client.user, reference.name, reference.version
    if alias is not None:
        # Only models' versions have other names.
        version = client.models.get(owner, name, alias=alias).latest.version
        return Lineage(client.models.lineage(owner, name, version))
    if kind != "model" or not known:
        try:
            return Lineage(client.endpoints.lineage(owner, name, version))
        except NotFound:
            if known:
                raise
    try:
        return Lineage(client.models.lineage(owner, name, version))
    except NotFound:
        raise NotFound(
            f"There is no run, endpoint or model {thing!r}.",
            remedy="'%aiaas runs', '%aiaas endpoints' and '%aiaas models' list them.",
        ) from None
