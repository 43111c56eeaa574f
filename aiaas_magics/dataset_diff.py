"""Two versions of a dataset beside each other."""

from __future__ import annotations

from aiaas_hub.schemas import datasets as wire
from aiaas_magics import display
from aiaas_magics.display import Rich

_TITLES = ["column", "shift", "missing", "mean"]


class Diff(Rich):
    """What is different between two versions: `.added`, `.removed`, `.retyped`, `.changes`."""

    def __init__(self, record: wire.Diff) -> None:
        self._record = record

    @property
    def added(self) -> list[str]:
        return [column.name for column in self._record.added]

    @property
    def removed(self) -> list[str]:
        return [column.name for column in self._record.removed]

    @property
    def retyped(self) -> dict[str, tuple[str, str]]:
        """Column → its type before and after."""
        return {old.name: (old.type, new.type) for old, new in self._record.retyped}

    @property
    def rows(self) -> tuple[int, int]:
        """Before and after."""
        return self._record.rows_before, self._record.rows_after

    @property
    def changes(self) -> list[wire.ColumnChange]:
        """Columns whose distribution is different, the most first."""
        return self._record.changes

    @property
    def same_content(self) -> bool:
        return self._record.same_content

    @property
    def _title(self) -> str:
        before, after = self._record.before, self._record.after
        return f"{after.owner}/{after.name}: @{before.version} → @{after.version}"

    def _facts(self) -> list[tuple[str, str]]:
        before, after = self.rows
        if self.same_content:
            return [("content", "the same")]
        return [
            ("rows", f"{before:,} → {after:,} ({after - before:+,})"),
            ("added", ", ".join(f"{c.name}: {c.type}" for c in self._record.added)),
            ("removed", ", ".join(f"{c.name}: {c.type}" for c in self._record.removed)),
            ("retyped", ", ".join(f"{n}: {a} → {b}" for n, (a, b) in self.retyped.items())),
            ("distributions", self._distributions()),
        ]

    def _distributions(self) -> str:
        if not self._record.profiled:
            return "not compared: profile both versions"
        if not self.changes:
            return "no column's is different"
        return f"{len(self.changes):,} columns' are different"

    def _rows(self) -> list[list[str]]:
        return [
            [
                display.clean(change.name),
                f"{change.shift:.2f}",
                f"{change.missing_before:.1%} → {change.missing_after:.1%}",
                ""
                if change.mean_before is None or change.mean_after is None
                else f"{display.number(change.mean_before)} → {display.number(change.mean_after)}",
            ]
            for change in self.changes
        ]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        rows = [[display.escape(value) for value in row] for row in self._rows()]
        more = [display.table(_TITLES, rows)] if rows else []
        return display.card(self._title, None, facts, *more)

    def _text(self) -> str:
        card = display.text_card(self._title, None, self._facts())
        rows = self._rows()
        return f"{card}\n{display.text_table(_TITLES, rows)}" if rows else card
