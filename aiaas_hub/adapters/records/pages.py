"""Paging by the key of a row, newest first: stable while rows are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.paging import Page

Row = TypeVar("Row")
Item = TypeVar("Item")


def before_cursor(
    query: Select[Row], key: InstrumentedAttribute[int], cursor: str | None
) -> Select[Row]:
    """The rows with keys below `cursor`. Raises `InvalidInput` for one that is not ours."""
    return query if cursor is None else query.where(key < cursor_number(cursor))


def cursor_number(cursor: str) -> int:
    """The key that a cursor stands for. Raises `InvalidInput` for one that is not ours."""
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidInput("The cursor is not one of ours.", remedy="Start again without a cursor.")
    return int(cursor)


def select_page(
    session: Session,
    query: Select[Row],
    key: InstrumentedAttribute[int],
    cursor: str | None,
    limit: int,
    convert: Callable[[Row], Item],
) -> Page[Item]:
    """The rows of `query` with keys below `cursor`, converted."""
    query = before_cursor(query, key, cursor)
    rows: Sequence[Any] = session.scalars(query.order_by(key.desc()).limit(limit + 1)).all()
    more = len(rows) > limit
    kept = rows[:limit]
    return Page(
        items=[convert(row) for row in kept],
        next_cursor=str(getattr(kept[-1], key.key)) if more else None,
    )
