"""Transforms on the wire: a run that makes new dataset versions out of one."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, Field, model_validator

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import Name, check_name

BatchFormat = Literal["pandas", "numpy", "pyarrow"]
"""What `transform(batch)` is given: a DataFrame, a dict of arrays, a Table."""
BATCH_FORMATS: tuple[BatchFormat, ...] = get_args(BatchFormat)
BATCH_ROWS = 4096
MAX_PARTS = 10


class TransformSpec(BaseModel):
    """What a transform makes of its run's one dataset: a version of `target`, or of one dataset
    for each part of a split, `target-train`, `target-test`, …"""

    target: Name
    """Of the run's owner."""
    batch_format: BatchFormat = "pandas"
    batch_size: int = Field(default=BATCH_ROWS, ge=1, le=1_000_000)
    """Rows of one call, at most: batches do not go beyond a row group of the source's file."""
    split: dict[Name, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=dict, max_length=MAX_PARTS
    )
    """Part → share of the result's rows; together 1. Empty: no split."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Which rows go into which part; nothing else in a transform is left to chance."""
    stratify: str | None = Field(default=None, min_length=1, max_length=1000)
    """A column of the result, each of whose values has these shares, too."""

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        if self.split and not math.isclose(sum(self.split.values()), 1, abs_tol=1e-6):
            raise ValueError(f"the shares of a split are 1 together, not {sum(self.shares):g}")
        if self.stratify is not None and not self.split:
            raise ValueError("a column to stratify by goes with a split")
        try:
            for name in self.names:
                check_name(name)
        except InvalidInput as error:
            # What a validator raises is collected with the request's other faults.
            raise ValueError(f"{error.message} {error.remedy}") from error
        return self

    @property
    def names(self) -> list[str]:
        """The datasets that it makes versions of, in the order of `shares`."""
        return [f"{self.target}-{part}" for part in self.split] or [self.target]

    @property
    def shares(self) -> list[float]:
        return list(self.split.values()) or [1.0]


class TransformResult(BaseModel):
    """What a transform has made: uploads of Parquet files, by the dataset's name."""

    contents: dict[Name, Digest] = Field(max_length=MAX_PARTS)
