"""What things came from, on the wire: endpoints, models, runs, and versions of datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from aiaas_hub.schemas.datasets import Origin
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.runs import PinnedDataset, Run


class LineageNode(BaseModel):
    """One thing of a lineage, as it is drawn."""

    id: str
    kind: Literal["endpoint", "model", "run", "query", "dataset"]
    name: str
    note: str = ""
    """What else is known of it, in a line."""
    text: str = ""
    """The code as typed, or the query."""
    of: list[str] = []
    """Ids of the nodes that it came from directly."""


class LineageStep(BaseModel):
    """One version and what made it, as far as the asker may read it."""

    dataset: PinnedDataset
    readable: bool = True
    """False: only that it was read is known, and nothing below it is told."""
    rows: int | None = None
    created_at: datetime | None = None
    retired: bool = False
    source: str = ""
    """`upload`, `query`, `run`, or the URI it was registered from."""
    origin: Origin | None = None
    """`origin.inputs` are steps themselves. None: stored by a release that kept no origin, or not
    readable."""
    run: Run | None = None
    """What made it, where the asker may read the run."""


class DatasetLineage(BaseModel):
    """A version and, after it, all that it was made of: the nearest first, each version once."""

    steps: list[LineageStep] = Field(min_length=1)
    nodes: list[LineageNode] = []
    """The same as a graph, with runs and queries between the versions."""
    truncated: bool = False
    """There are more versions behind the last ones than are answered."""


class Lineage(BaseModel):
    """What a thing came from: endpoint ← model ← run ← code and data ← what these were made of."""

    endpoint: str | None = None
    endpoint_version: int | None = None
    model: PinnedModel | None = None
    run: Run | None = None
    datasets: list[PinnedDataset] = Field(default_factory=list)
    """What the run read."""
    nodes: list[LineageNode] = []
    """All of it as a graph, and what the datasets were made of, as far as the asker may read it."""
    truncated: bool = False
    """There is more behind the last datasets than is answered."""
