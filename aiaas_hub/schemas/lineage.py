"""What versions of datasets were made of, on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from aiaas_hub.schemas.datasets import Origin
from aiaas_hub.schemas.runs import PinnedDataset, Run


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
    truncated: bool = False
    """There are more versions behind the last ones than are answered."""
