"""What a query gave."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.schemas.queries import Engine, QueryRequest
from aiaas_magics import display
from aiaas_magics.client import Client
from aiaas_magics.display import Rich

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN_ROWS = 20


class QueryResult(Rich):
    """The rows of a query, and whether these are all of them."""

    def __init__(self, table: pa.Table, cut: str, datasets: list[str]) -> None:
        self._table = table
        self._cut = cut
        self.datasets = datasets
        """The exact versions that were read."""

    @classmethod
    def of(
        cls, client: Client, query: str, limit: int | None, engine: Engine = "duckdb"
    ) -> QueryResult:
        import pyarrow.parquet as pq

        request = QueryRequest(sql=query, limit=limit, engine=engine)
        with tempfile.TemporaryDirectory(prefix="aiaas-") as directory:
            path = Path(directory) / "result.parquet"
            answer = client.datasets.query(request, path)
            return cls(pq.read_table(path), answer.cut, answer.datasets)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def is_cut(self) -> bool:
        """Whether the platform's limits ended the result before its end."""
        return bool(self._cut)

    @property
    def caution(self) -> str:
        """What to say of a result that is cut; empty for one that is whole."""
        if not self._cut:
            return ""
        what = "as many as one answer may have" if self._cut == "rows" else "as much as may be sent"
        return (
            f"Cut at {len(self):,} rows, {what} here. Get all of them as a dataset with "
            "'%%aiaas sql --save NAME', then load what you need of it."
        )

    def to_pandas(self) -> pd.DataFrame:
        return self._table.to_pandas()

    def to_arrow(self) -> pa.Table:
        return self._table

    @property
    def _caption(self) -> str:
        read = f" of {', '.join(self.datasets)}" if self.datasets else ""
        return f"{len(self):,} rows, {self._table.num_columns:,} columns{read}"

    def _html(self) -> str:
        head = self._table.slice(0, _SHOWN_ROWS).to_pandas()
        rows = [[display.escape(value) for value in row] for row in head.itertuples(index=False)]
        caution = f"<div><b>{display.escape(self.caution)}</b></div>" if self._cut else ""
        return (
            f"{caution}{display.muted(self._caption)}"
            f"{display.table(self._table.column_names, rows)}"
        )

    def _text(self) -> str:
        head = self._table.slice(0, _SHOWN_ROWS).to_pandas()
        return "\n".join(filter(None, [self.caution, self._caption, head.to_string(index=False)]))
