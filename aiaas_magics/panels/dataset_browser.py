"""What the dataset browser knows and can do, with no page before it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from traitlets import Bool, Dict, HasTraits, Unicode

from aiaas_hub.schemas import datasets as wire
from aiaas_magics import display
from aiaas_magics.client import Client
from aiaas_magics.dataset import HISTORY, Dataset
from aiaas_magics.panels.background import Background
from aiaas_magics.preview import Preview, cell_text, image_source
from aiaas_magics.profile import Profile

LISTED = 50
"""Datasets that are asked for at a time."""
ROWS = 20
"""Rows of a page."""
_VERSIONS = 50
_LONGEST = 2000
"""Characters of a cell that are told where it is pointed at."""
_PROFILE_SECONDS = 600.0

EMPTY = "No datasets yet. Store a DataFrame: aiaas.datasets.put('name', df)"

State = dict[str, Any]


class DatasetBrowser(HasTraits):
    """Lists, chooses and pages, all on the server's side. Its traits are JSON for a page, and
    hold texts, never markup."""

    listing = Dict()
    """`items`, whether there are `more`, and what to say where it is `empty`."""
    chosen = Dict()
    """The dataset that is looked at: facts, columns, versions, profile; empty for none."""
    table = Dict()
    """The page of rows that is looked at, and the `line` that loads what it shows."""
    error = Unicode()
    busy = Bool()

    def __init__(self, client: Client, beside: Background) -> None:
        super().__init__()
        self._client = client
        self.beside = beside
        self._words = ""
        self._rest: Iterator[wire.Dataset] = iter(())
        self._dataset: Dataset | None = None
        self._columns: list[str] = []
        self._where = ""
        self._sort = ""
        self._waiting: set[str] = set()

    # What a user does

    def search(self, words: str = "") -> None:
        """List those of which some words begin like these; all of them for no words."""
        self._words = words = words.strip()

        def ask() -> tuple[list[wire.Dataset], bool]:
            self._rest = self._client.datasets.list(search=words or None)
            return self._next()

        self._begin("list")
        self.beside.run("list", ask, lambda found: self._listed([], *found), self._failed("list"))

    def more(self) -> None:
        """List the next ones as well."""
        known = list(self.listing.get("items", []))
        self._begin("list")
        self.beside.run(
            "list", self._next, lambda found: self._listed(known, *found), self._failed("list")
        )

    def choose(self, name: str, version: int | None = None) -> None:
        """Look at a dataset: `owner/name`, its newest version or this one."""

        def ask() -> tuple[Dataset, list[wire.DatasetVersion], Profile | None, Preview]:
            owner, plain, _ = self._client.resolve_dataset(name)
            at = self._client.datasets
            dataset = Dataset(self._client, at.get(owner, plain, version))
            versions = list(islice(at.versions(owner, plain), _VERSIONS))
            known = at.profile(owner, plain, dataset.version).profile
            profile = Profile(str(dataset), known) if known is not None else None
            return dataset, versions, profile, dataset.preview(ROWS)

        self._begin("dataset")
        self.beside.run("dataset", ask, lambda found: self._chose(*found), self._failed("dataset"))

    def look(self, columns: list[str], where: str = "", sort: str = "") -> None:
        """The first page of these columns (none: all) that fulfil the condition."""
        dataset = self._dataset
        if dataset is None:
            return
        self._ask_for_rows(dataset, columns, where.strip(), sort, 0)

    def page(self, offset: int) -> None:
        """The page from this row on, of what is looked at."""
        if self._dataset is not None:
            self._ask_for_rows(
                self._dataset, self._columns, self._where, self._sort, max(0, offset)
            )

    def profile(self) -> None:
        """Have statistics of the columns computed, and show them once they are there."""
        dataset = self._dataset
        if dataset is None:
            return

        def show(profile: Profile | None) -> None:
            self._end("profile")
            if self._dataset is dataset and profile is not None:
                self.chosen = {**self.chosen, "profile": _profile_state(profile)}

        self._begin("profile")
        self.beside.run(
            "profile",
            lambda: dataset.profile(timeout=_PROFILE_SECONDS),
            show,
            self._failed("profile"),
        )

    def take(self, message: object) -> None:
        """What the page says that a user did. A message that means nothing changes nothing."""
        if not isinstance(message, Mapping):
            return
        what = message.get("do")
        if what == "search":
            self.search(_text(message, "words"))
        elif what == "more":
            self.more()
        elif what == "choose":
            self.choose(_text(message, "name"), _whole(message, "version"))
        elif what == "look":
            columns = message.get("columns")
            wanted = [c for c in columns if isinstance(c, str)] if isinstance(columns, list) else []
            self.look(wanted, _text(message, "where"), _text(message, "sort"))
        elif what == "page":
            self.page(_whole(message, "offset") or 0)
        elif what == "profile":
            self.profile()

    # What comes back

    def _next(self) -> tuple[list[wire.Dataset], bool]:
        found = list(islice(self._rest, LISTED + 1))
        # One more than is shown says whether there are more; it is the first of the next ones.
        if len(found) > LISTED:
            last = found.pop()
            rest = self._rest
            self._rest = _before(last, rest)
            return found, True
        return found, False

    def _listed(self, known: list[State], found: list[wire.Dataset], more: bool) -> None:
        self._end("list")
        empty = EMPTY
        if self._words:
            empty = f"Nothing has words that begin like {self._words!r}. Search for less."
        items = [*known, *(_item(record) for record in found)]
        self.listing = {"items": items, "more": more, "empty": display.clean(empty)}

    def _chose(
        self,
        dataset: Dataset,
        versions: list[wire.DatasetVersion],
        profile: Profile | None,
        preview: Preview,
    ) -> None:
        self._end("dataset")
        self._dataset = dataset
        self._columns, self._where, self._sort = [], "", ""
        self.chosen = {
            "name": f"{dataset.owner}/{dataset.name}",
            "version": dataset.version,
            "title": display.clean(str(dataset)),
            "facts": [[label, display.clean(v)] for label, v in dataset._facts() if v],
            # Raw names: they are asked for again as they are.
            "columns": [
                [column.name, display.clean(column.name), column.type]
                for column in dataset._record.latest.columns
            ],
            "versions": {
                "titles": [column.title for column in HISTORY],
                "rows": [
                    [one.version, *(display.clean(str(c.text(one))) for c in HISTORY)]
                    for one in versions
                ],
            },
            "profile": _profile_state(profile) if profile is not None else None,
        }
        self._show(preview)

    def _ask_for_rows(
        self, dataset: Dataset, columns: list[str], where: str, sort: str, offset: int
    ) -> None:
        def show(preview: Preview) -> None:
            self._end("rows")
            if self._dataset is dataset:
                self._columns, self._where, self._sort = columns, where, sort
                self._show(preview)

        self._begin("rows")
        self.beside.run(
            "rows",
            lambda: dataset.preview(
                ROWS, columns or None, where or None, sort=sort or None, offset=offset
            ),
            show,
            self._failed("rows"),
        )

    def _show(self, preview: Preview) -> None:
        record = preview._record
        self.table = {
            "columns": [[c.name, display.clean(c.name), c.type] for c in record.columns],
            "rows": [
                [
                    _cell(value, column.type)
                    for value, column in zip(row, record.columns, strict=True)
                ]
                for row in record.rows
            ],
            "caption": display.clean(preview.caption),
            "offset": record.offset,
            "step": ROWS,
            "more": record.truncated,
            "sort": self._sort,
            "where": self._where,
            "line": self.line,
            "empty": "No row fulfils the condition." if record.filtered else "It has no rows.",
        }

    @property
    def line(self) -> str:
        """What a cell has to say to load what is looked at."""
        dataset = self._dataset
        if dataset is None:
            return ""
        mine = dataset.owner == self._client.user
        name = dataset.name if mine else f"{dataset.owner}/{dataset.name}"
        words = ["%aiaas load", word(f"{name}@{dataset.version}"), "--into df"]
        if self._columns:
            words += ["--columns", word(",".join(self._columns))]
        if self._where:
            words += ["--where", word(self._where)]
        return display.clean(" ".join(words)).replace("\n", " ")

    def _begin(self, slot: str) -> None:
        self._waiting.add(slot)
        self.busy = True

    def _end(self, slot: str) -> None:
        self.error = ""
        self._waiting.discard(slot)
        self.busy = bool(self._waiting)

    def _failed(self, slot: str) -> Any:
        def tell(sentence: str) -> None:
            self._end(slot)
            self.error = display.clean(sentence)

        return tell

    def html(self) -> str:
        """What it shows where there is no widget."""
        titles, rows = self._rows()
        if not rows:
            return f"<div>{display.escape(self.error or self.listing.get('empty', EMPTY))}</div>"
        return display.table(titles, [[display.escape(cell) for cell in row] for row in rows])

    def text(self) -> str:
        titles, rows = self._rows()
        if not rows:
            return str(self.error or self.listing.get("empty", EMPTY))
        more = "\n…" if self.listing.get("more") else ""
        return (
            f"Datasets (the browser itself needs a notebook page)\n"
            f"{display.text_table(titles, rows)}{more}\n"
            f"Look at one with '%aiaas preview {rows[0][0]}'."
        )

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        items = self.listing.get("items", [])
        return ["dataset", "rows", "size", "updated", "about"], [
            [item["title"], item["rows"], item["size"], item["updated"], item["about"]]
            for item in items
        ]


def word(text: str) -> str:
    """One word of a magic's line, whatever is in it."""
    return shlex.quote(text.replace("{", "{{").replace("}", "}}"))


def _item(record: wire.Dataset) -> State:
    name = f"{record.owner}/{record.name}"
    about = " ".join(display.clean(record.description).split())
    return {
        "name": name,
        "title": display.clean(name),
        "version": record.latest.version,
        "rows": f"{record.latest.rows:,}",
        "size": display.size(record.latest.size),
        "updated": display.ago(record.updated_at),
        "about": about if len(about) <= 80 else f"{about[:79]}…",
        "tags": [display.clean(tag) for tag in record.tags],
    }


def _cell(value: object, type_: str) -> State | str | None:
    """A short text, or one with all that a pointer finds out, or an image."""
    if value is None:
        return None
    source = image_source(value, type_)
    if source is not None:
        return {"image": source}
    short = display.clean(cell_text(value)).replace("\n", " ")
    nested = isinstance(value, dict | list)
    whole = json.dumps(value, ensure_ascii=False) if nested else str(value)
    if len(whole) <= len(short) or isinstance(value, float):
        return short
    return {"text": short, "all": display.clean(whole[:_LONGEST])}


def _profile_state(profile: Profile) -> State:
    titles, rows = profile.text_table()
    return {"caption": display.clean(profile.caption), "titles": titles, "rows": rows}


def _before(first: wire.Dataset, rest: Iterator[wire.Dataset]) -> Iterator[wire.Dataset]:
    yield first
    yield from rest


def _text(message: Mapping[str, object], name: str) -> str:
    value = message.get(name)
    return value if isinstance(value, str) else ""


def _whole(message: Mapping[str, object], name: str) -> int | None:
    value = message.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
