"""A lineage as a graph: from an answer's version down to uploads and queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiaas_hub.schemas.lineage import Lineage, LineageNode, LineageStep
from aiaas_hub.schemas.runs import PinnedDataset, Run


def nodes(lineage: Lineage, steps: Sequence[LineageStep]) -> list[LineageNode]:
    """Each thing once, the nearest first; `steps` are of the run's datasets, or of the dataset
    that was asked for. What is not told has no node, and nothing leads to it."""
    found: dict[str, LineageNode] = {}
    for node in (*_chain(lineage), *(node for step in steps for node in _made(step))):
        found.setdefault(node.id, node)
    for node in found.values():
        node.of = [one for one in node.of if one in found]
    return list(found.values())


def _chain(lineage: Lineage) -> Iterator[LineageNode]:
    model = f"model:{lineage.model}"
    if lineage.endpoint is not None:
        name = f"{lineage.endpoint}@{lineage.endpoint_version}"
        yield LineageNode(id=f"endpoint:{name}", kind="endpoint", name=name, of=[model])
    if lineage.model is not None:
        of = [] if lineage.run is None else [_run_id(lineage.run)]
        yield LineageNode(id=model, kind="model", name=str(lineage.model), of=of)
    if lineage.run is not None:
        yield _run(lineage.run, lineage.datasets)


def _run_id(run: Run) -> str:
    return f"run:{run.id}"


def _run(run: Run, read: Sequence[PinnedDataset]) -> LineageNode:
    return LineageNode(
        id=_run_id(run),
        kind="run",
        name=f"{run.name} · {run.id}",
        note=f"{run.state} by {run.owner}",
        text=run.snapshot.source,
        of=[_dataset_id(one) for one in read],
    )


def _dataset_id(dataset: PinnedDataset) -> str:
    return f"dataset:{dataset}"


def _made(step: LineageStep) -> Iterator[LineageNode]:
    """A version, and the query or run that made it."""
    origin = step.origin
    inputs = [] if origin is None else [_dataset_id(one) for one in origin.inputs]
    rows = "" if step.rows is None else f"{step.rows:,} rows"
    by = step.source
    if not step.readable:
        by = "not yours to read"
    elif origin is not None:
        by = f"{origin.uri or origin.kind} by {origin.by}"
    of = inputs
    if origin is not None and origin.kind == "query":
        query = LineageNode(
            id=f"query:{step.dataset}",
            kind="query",
            name=f"SQL{f' on {origin.engine}' if origin.engine else ''}",
            note=by,
            text=origin.sql or "",
            of=inputs,
        )
        of, by = [query.id], ""
        yield query
    elif step.run is not None and origin is not None:
        of, by = [_run_id(step.run)], ""
        yield _run(step.run, origin.inputs)
    retired = "retired" if step.retired else ""
    yield LineageNode(
        id=_dataset_id(step.dataset),
        kind="dataset",
        name=str(step.dataset),
        note=" · ".join(part for part in (by, rows, retired) if part),
        of=of,
    )
