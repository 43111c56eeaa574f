"""Lineage of a dataset: what made a version, and the versions that it was made of."""

from __future__ import annotations

from collections.abc import Iterator

from aiaas_hub.schemas import lineage as wire
from aiaas_magics import display, lineage_graph
from aiaas_magics.dataset import made_by
from aiaas_magics.display import Rich


class DatasetLineage(Rich):
    """A version at the top, and below each version those that it was made of."""

    def __init__(self, record: wire.DatasetLineage) -> None:
        self._record = record
        self._steps = {str(step.dataset): step for step in record.steps}

    @property
    def dataset(self) -> str:
        """`owner/name@version`."""
        return str(self._record.steps[0].dataset)

    @property
    def inputs(self) -> list[str]:
        """The versions that it was made of directly."""
        return _inputs(self._record.steps[0])

    @property
    def datasets(self) -> list[str]:
        """All versions that it comes from, the nearest first."""
        return [str(step.dataset) for step in self._record.steps[1:]]

    @property
    def run(self) -> str | None:
        """Id of the run that made it."""
        origin = self._record.steps[0].origin
        return origin.run if origin is not None else None

    @property
    def is_whole(self) -> bool:
        """Whether everything that it comes from is here and may be read."""
        return not self._record.truncated and all(step.readable for step in self._record.steps)

    @property
    def source(self) -> str:
        """The code of the run that made it as typed, or the query."""
        step = self._record.steps[0]
        if step.run is not None:
            return step.run.snapshot.source
        return (step.origin.sql or "") if step.origin is not None else ""

    def _lines(self) -> Iterator[tuple[int, str, str]]:
        """(depth, version, what made it), each version's own sources below its first mention."""
        told: set[str] = set()
        waiting = [(0, self.dataset)]
        while waiting:
            depth, name = waiting.pop()
            step = self._steps.get(name)
            if step is None:
                yield depth, name, "not shown: there are too many versions"
            elif name in told:
                yield depth, name, "see above"
            else:
                told.add(name)
                yield depth, name, _made(step)
                waiting.extend((depth + 1, one) for one in reversed(_inputs(step)))

    def _html(self) -> str:
        lines = "".join(
            f'<div style="padding-left:{1.5 * depth}em">{"← " if depth else ""}'
            f"{display.code(name)} {display.muted(made)}</div>"
            for depth, name, made in self._lines()
        )
        more = ""
        if self.source:
            more = (
                f"<details><summary>the code as typed</summary>{display.pre(self.source)}</details>"
            )
        drawn = lineage_graph.html(self._record.nodes)
        return display.card("Lineage", None, [], lines, drawn, more)

    def _text(self) -> str:
        return "\n".join(
            ["Lineage"]
            + [
                f"  {'   ' * depth}{'← ' if depth else ''}{display.clean(name)}: "
                f"{display.clean(made)}"
                for depth, name, made in self._lines()
            ]
        )


def _inputs(step: wire.LineageStep) -> list[str]:
    return [] if step.origin is None else [str(one) for one in step.origin.inputs]


def _made(step: wire.LineageStep) -> str:
    if not step.readable:
        return "not yours to read"
    by = made_by(step)
    if step.run is not None:
        run = step.run
        by = f"{run.kind} {run.name} · {run.id} by {run.owner}"
    rows = "" if step.rows is None else f" · {step.rows:,} rows"
    return f"{by}{rows}{' · retired' if step.retired else ''}"
