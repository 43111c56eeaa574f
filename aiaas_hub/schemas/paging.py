"""Lists are paged by an opaque cursor."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

T = TypeVar("T")

DEFAULT_PAGE = 50
MAX_PAGE = 500


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_cursor: str | None = None
