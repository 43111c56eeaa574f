"""Lineage: what a thing came from, endpoint ← model ← run ← code and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aiaas_hub.schemas import lineage as wire
from aiaas_hub.schemas.datasets import parse_dataset_reference
from aiaas_hub.schemas.errors import NotFound
from aiaas_hub.schemas.names import ALIAS, parse_model
from aiaas_magics import display, lineage_graph
from aiaas_magics.client import Client, current_client
from aiaas_magics.dataset_lineage import DatasetLineage
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

    @property
    def nodes(self) -> list[wire.LineageNode]:
        """All things that it came from, with the ids of what each came from in `.of`: the dataset's
        own sources too, and the runs and queries that made them."""
        return self._record.nodes

    @property
    def queries(self) -> dict[str, str]:
        """Version of a dataset, as `owner/name@2` → the SQL that made it."""
        return {
            node.id.removeprefix("query:"): node.text
            for node in self._record.nodes
            if node.kind == "query"
        }

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out for being too much."""
        return not self._record.truncated

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
        steps += [("made by", made) for made in self._made()]
        steps.append(("more", "" if self.is_whole else "behind these, which is not shown"))
        return [(label, value) for label, value in steps if value]

    def _made(self) -> Iterator[str]:
        """Of each version of a dataset behind it, what made it: the SQL in one line, or the run."""
        named = {node.id: node for node in self._record.nodes}
        for node in self._record.nodes:
            if node.kind != "dataset":
                continue
            makers = [named[one] for one in node.of]
            if len(makers) == 1 and makers[0].kind == "query":
                (query,) = makers
                yield f"{node.name}: {query.name}: {' '.join(query.text.split())}"
            elif len(makers) == 1 and makers[0].kind == "run":
                yield f"{node.name}: run {makers[0].name}"
            else:
                yield f"{node.name}: {node.note}"

    def _html(self) -> str:
        told = [(f"the query of {name}", sql) for name, sql in self.queries.items()]
        if self.source:
            told.insert(0, ("the code as typed", self.source))
        more = "".join(
            f"<details><summary>{display.escape(what)}</summary>{display.pre(text)}</details>"
            for what, text in told
        )
        facts = [(label, display.escape(value)) for label, value in self._steps()]
        return display.card("Lineage", None, facts, lineage_graph.html(self.nodes), more)

    def _text(self) -> str:
        return display.text_card("Lineage", None, self._steps())


def lineage_of(thing: str, client: Client | None = None) -> Lineage | DatasetLineage:
    """Lineage of a run's id, an endpoint, a model or a dataset, tried in this order.

    `endpoint:NAME`, `model:NAME` and `dataset:NAME` say which is meant where several have the name.
    """
    client = client or current_client()
    kind, _, rest = thing.partition(":")
    if kind in _WAYS and rest:
        return _WAYS[kind](rest, client)
    if thing.startswith("run-") and "/" not in thing:
        try:
            return Lineage(client.runs.lineage(thing))
        except NotFound:
            # Something else may have a name that begins like a run's id.
            pass
    tag = thing.partition("@")[2]
    if tag and not tag.removeprefix("v").isdigit() and not ALIAS.fullmatch(tag):
        # Versions of datasets alone have such names.
        return _of_dataset(thing, client)
    for way in _WAYS.values():
        try:
            return way(thing, client)
        except NotFound:
            continue
    raise NotFound(
        f"There is no run, endpoint, model or dataset {thing!r}.",
        remedy="'%aiaas runs', '%aiaas endpoints', '%aiaas models' and '%aiaas datasets' list "
        "them.",
    )


def _of_endpoint(thing: str, client: Client) -> Lineage:
    reference, alias = parse_model(thing)
    if alias is not None:
        raise NotFound(
            f"Versions of endpoints have no names such as {alias!r}.",
            remedy="Say its number: NAME@2.",
        )
    owner = reference.owner or client.user
    return Lineage(client.endpoints.lineage(owner, reference.name, reference.version))


def _of_model(thing: str, client: Client) -> Lineage:
    reference, alias = parse_model(thing)
    owner, name, version = reference.owner or client.user, reference.name, reference.version
    if alias is not None:
        version = client.models.get(owner, name, alias=alias).latest.version
    return Lineage(client.models.lineage(owner, name, version))


def _of_dataset(thing: str, client: Client) -> DatasetLineage:
    reference = parse_dataset_reference(thing)
    owner = reference.owner or client.user
    return DatasetLineage(client.datasets.lineage(owner, reference.name, reference.version))


_WAYS: dict[str, Callable[[str, Client], Lineage | DatasetLineage]] = {
    "endpoint": _of_endpoint,
    "model": _of_model,
    "dataset": _of_dataset,
}
