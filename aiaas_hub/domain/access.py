"""Who asks, as far as the domain needs to know."""

from __future__ import annotations

from typing import Protocol


class Asker(Protocol):
    @property
    def user(self) -> str: ...

    @property
    def groups(self) -> frozenset[str]:
        """The hub's groups that the user is in."""

    def may_read(self, owner: str) -> bool:
        """Whether their token lets them read this owner's objects."""
