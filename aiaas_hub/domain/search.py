"""The words by which a dataset is found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from aiaas_hub.schemas.errors import InvalidInput

TermKind = Literal["name", "owner", "column", "tag", "text"]

MAX_TERMS = 1000
"""Of one dataset: what a description of a book's length holds beyond them is not found."""
MAX_TERM = 64
MAX_WORDS = 10
_APART = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Word:
    """What a word to search for begins with, anywhere or only in one kind of place."""

    text: str
    kind: TermKind | None = None


def terms_of(
    owner: str, name: str, columns: Iterable[str], tags: Iterable[str], description: str
) -> list[tuple[str, TermKind]]:
    """Every word, and every name as a whole, in lower case."""
    found: dict[tuple[str, TermKind], None] = {}
    places: list[tuple[TermKind, Iterable[str]]] = [
        ("name", [name]),
        ("owner", [owner]),
        ("tag", tags),
        ("column", columns),
        ("text", _APART.split(description)),
    ]
    for kind, texts in places:
        for text in texts:
            lower = text.lower()
            for term in (lower, *_APART.split(lower)):
                if term:
                    found[term[:MAX_TERM], kind] = None
    return list(found)[:MAX_TERMS]


def words_of(query: str) -> Sequence[Word]:
    """The words of `price column:city tag:gold`. Raises `InvalidInput` for too many."""
    words: list[Word] = []
    for part in query.lower().split():
        before, colon, after = part.partition(":")
        kind = next((kind for kind in get_args(TermKind) if kind == before), None)
        if colon and kind is not None:
            if after:
                words.append(Word(after[:MAX_TERM], kind))
        else:
            words += [Word(term[:MAX_TERM]) for term in _APART.split(part) if term]
    if len(words) > MAX_WORDS:
        raise InvalidInput(
            f"A search has at most {MAX_WORDS} words.", remedy="Leave the commonest ones out."
        )
    return words
