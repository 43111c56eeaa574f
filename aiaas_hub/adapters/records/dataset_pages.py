"""The list of datasets, which is asked for often and has to be cheap.

One statement finds the page and what is shown of it. It is built once for each form that a
question may have; writing it costs more than running it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import BindParameter, Integer, Select, String, bindparam, func, select, union
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import ColumnElement

from aiaas_hub.adapters.records.pages import cursor_number
from aiaas_hub.adapters.records.tables import (
    DatasetRow,
    DatasetTagRow,
    DatasetTermRow,
    DatasetVersionRow,
)
from aiaas_hub.domain.dataset_records import DatasetFilter
from aiaas_hub.domain.search import Word
from aiaas_hub.schemas.datasets import Dataset
from aiaas_hub.schemas.paging import Page

_LAST_CHARACTER = "\U0010ffff"
_COMMON = 2000
"""A word that so many datasets have is looked up dataset by dataset."""
_DATASETS = TypeAdapter(list[Dataset])

# Plain columns, by their names on the wire: objects that the session looks after cost more than
# the queries.
_D = DatasetRow.__table__.c
_V = DatasetVersionRow.__table__.c
_OF_DATASET = {
    "owner": _D.owner,
    "name": _D.name,
    "description": _D.description,
    "licence": _D.licence,
    "tags": _D.tags,
    "visibility": _D.visibility,
    "group": _D.shared_group,
    "created_at": _D.created_at,
    "updated_at": _D.updated_at,
}
_OF_VERSION = {
    "version": _V.version,
    "created_at": _V.created_at,
    "format": _V.format,
    "digest": _V.digest,
    "size": _V.size,
    "rows": _V.rows,
    "columns": _V.columns,
    "source": _V.source,
    "origin": _V.origin,
}
_SHOWN = (_D.id, *_OF_DATASET.values(), *_OF_VERSION.values())


class _Form(NamedTuple):
    """What a question has; its values are bound later."""

    owner: bool
    reads_owner: bool
    groups: bool
    pattern: bool
    cursor: bool


def page(session: Session, which: DatasetFilter, cursor: str | None, limit: int) -> Page[Dataset]:
    """Newest first. Raises `InvalidInput` for a cursor that is not ours."""
    form = _Form(
        which.owner is not None,
        which.reads_owner,
        bool(which.groups),
        bool(which.pattern),
        cursor is not None,
    )
    conditions = [_having(session, word) for word in which.words]
    query = _built(form, conditions) if conditions else _statement(form)
    connection = session.connection()
    found = connection.execute(
        query,
        {
            "user": which.user,
            "owner": which.owner,
            "groups": sorted(which.groups),
            "pattern": _like(which.pattern),
            "before": 0 if cursor is None else cursor_number(cursor),
            "count": limit + 1,
        },
    ).all()
    kept = found[:limit]
    tags: dict[tuple[int, int], list[str]] = {}
    if kept:
        for dataset, version, tag in connection.execute(_TAGS, {"ids": [row[0] for row in kept]}):
            tags.setdefault((dataset, version), []).append(tag)
    # Of this very type, which is then not validated once more on its way out.
    return Page[Dataset].model_construct(
        items=_DATASETS.validate_python([_as_fields(row, tags) for row in kept]),
        next_cursor=str(kept[-1][0]) if len(found) > limit else None,
    )


def _as_fields(row: Sequence[Any], tags: Mapping[tuple[int, int], list[str]]) -> dict[str, Any]:
    number, *values = row
    fields = dict(zip(_OF_DATASET, values, strict=False))
    version = dict(zip(_OF_VERSION, values[len(_OF_DATASET) :], strict=True))
    # The newest that is not retired: `retired` is as it is by default.
    version["tags"] = tags.get((number, version["version"]), [])
    fields["latest"] = version
    return fields


_TAGS = (
    select(DatasetTagRow.dataset_id, DatasetTagRow.version, DatasetTagRow.tag)
    .where(DatasetTagRow.dataset_id.in_(bindparam("ids", expanding=True)))
    .order_by(DatasetTagRow.tag)
)


@lru_cache(maxsize=32)  # as many as there are forms
def _statement(form: _Form) -> Select[Any]:
    return _built(form, [])


def _built(form: _Form, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    # One query for each way in which a dataset may be readable, each along an index; a condition
    # that joins the ways would read all datasets for who has few.
    count: ColumnElement[int] = bindparam("count", type_=Integer)
    ways = [
        _narrowed(way, form)
        .where(*conditions)
        .order_by(DatasetRow.id.desc())
        .limit(count)
        .subquery()
        for way in _ways(form)
    ]
    ids = union(*[select(way.c.id) for way in ways]).subquery()
    newest = select(ids.c.id).order_by(ids.c.id.desc()).limit(count).subquery()
    return (
        select(*_SHOWN)
        .join_from(newest, DatasetRow, DatasetRow.id == newest.c.id)
        .join(
            DatasetVersionRow,
            (DatasetVersionRow.dataset_id == DatasetRow.id)
            & (DatasetVersionRow.version == DatasetRow.latest_version),
        )
        .order_by(newest.c.id.desc())
    )


def _ways(form: _Form) -> list[Select[Any]]:
    """In which ways a dataset may be readable to who asks."""
    ids = select(DatasetRow.id)
    owner = DatasetRow.owner == bindparam("owner", type_=String)
    shared = [ids.where(DatasetRow.visibility == "everyone")]
    if form.groups:
        groups: BindParameter[str] = bindparam("groups", expanding=True)
        shared.append(
            ids.where(DatasetRow.shared_group.in_(groups), DatasetRow.visibility == "group")
        )
    if not form.owner:
        return [ids.where(DatasetRow.owner == bindparam("user", type_=String)), *shared]
    if form.reads_owner:
        return [ids.where(owner)]
    return [way.where(owner) for way in shared]


def _narrowed(way: Select[Any], form: _Form) -> Select[Any]:
    way = way.where(DatasetRow.latest_version > 0)
    if form.cursor:
        way = way.where(DatasetRow.id < bindparam("before", type_=Integer))
    if form.pattern:
        pattern = bindparam("pattern", type_=String)
        way = way.where(DatasetRow.name.ilike(pattern, escape="\\"))
    return way


def _having(session: Session, word: Word) -> ColumnElement[bool]:
    """Whether a dataset has the word. Those that have a rare one are gathered first; of a common
    one each dataset is asked, newest first, until the page is full."""
    term = aliased(DatasetTermRow)
    found = select(term.dataset_id).where(
        term.term >= word.text, term.term < word.text + _LAST_CHARACTER
    )
    if word.kind is not None:
        found = found.where(term.kind == word.kind)
    few = session.scalar(select(func.count()).select_from(found.limit(_COMMON).subquery()))
    if few is not None and few < _COMMON:
        return DatasetRow.id.in_(found)
    return found.where(term.dataset_id == DatasetRow.id).correlate(DatasetRow).exists()


def _like(pattern: str) -> str:
    """Shell wildcards in SQL's spelling; a pattern with none matches anywhere in the name."""
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    if "*" not in pattern and "?" not in pattern:
        return f"%{escaped}%"
    return escaped.replace("*", "%").replace("?", "_")
