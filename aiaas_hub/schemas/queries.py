"""Queries on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Engine = Literal["duckdb", "spark"]

MAX_QUERY = 100_000
"""Characters of SQL."""

ROWS_HEADER = "x-aiaas-rows"
CUT_HEADER = "x-aiaas-cut"
"""What ended the result before its end: `rows`, `size`; absent where it is whole."""
DATASETS_HEADER = "x-aiaas-datasets"
"""The exact versions that were read: a JSON list of `owner/name@version`, in ASCII."""


class QueryRequest(BaseModel):
    """One SELECT. Its tables are datasets: `name`, `owner.name` or `{{[owner/]name[@version]}}`."""

    sql: str = Field(min_length=1, max_length=MAX_QUERY)
    limit: int | None = Field(default=None, ge=1, le=2**53)
    """Most rows to answer; never more than the platform's own limit."""
    engine: Engine = "duckdb"
    """`spark` runs the same SQL, translated, where the platform has a Spark."""
