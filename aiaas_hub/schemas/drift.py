"""What callers send, beside what a model was made from."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel


class ReferenceFeature(BaseModel):
    """One number of a row of the held-out inputs."""

    name: str
    """The input's, with the place in it where it has several: `x[3]`, `grid[0,7]`."""
    tensor: str
    edges: list[float]
    """Ascending. See `InputBins` for what is in which place."""
    counts: list[int]
    """Held-out rows in each place; one more than bins, the first are no numbers."""


class InputReference(BaseModel):
    """What a version's inputs are compared with: how its held-out rows are spread.

    It lies beside the model's file where it is served, as `inputs.json`.
    """

    rows: int
    features: list[ReferenceFeature] = []
    """In the order in which they are counted."""
    omitted: list[str] = []
    """Inputs that are not compared, being strings."""
    reason: str = ""
    """Why no feature is: one sentence and what to do."""


Change = Literal["none", "some", "much"]


class FeatureDrift(BaseModel):
    name: str
    psi: float
    """Population stability index: 0 where the two are spread alike."""
    chance: float
    """Where they are, an index beyond this comes up once in a thousand times by chance."""
    change: Change
    """`some` from 0.1 on, `much` from 0.25 on; `none` where it may be chance."""
    edges: list[float]
    """Between the bins."""
    reference: list[float]
    """Share of the held-out rows in each bin, from small values to large."""
    seen: list[float]
    """The same of the callers' rows."""
    reference_missing: float = 0.0
    """Share of the held-out rows that have no number (NaN) here, which is in no bin."""
    seen_missing: float = 0.0


class VersionDrift(BaseModel):
    """What one version's callers send. Of what they sent only these counts are kept."""

    version: int
    percent: int
    """Its share of the requests."""
    reference_rows: int = 0
    """Held-out rows of the model, with which its callers' are compared."""
    rows: int = 0
    """Of callers, that are compared."""
    needed_rows: int
    """With fewer nothing is said."""
    since: datetime | None = None
    """When the first of them may have come; None: when the model was loaded."""
    features: list[FeatureDrift] = []
    """Most changed first."""
    omitted: list[str] = []
    """Inputs that are not compared, being strings."""
    reason: str = ""
    """Why nothing is compared: one sentence and what to do."""


class EndpointDrift(BaseModel):
    versions: list[VersionDrift]
    """Those that are loaded, newest first."""
