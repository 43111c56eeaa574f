"""Keys of an endpoint, for callers outside of the hub."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from aiaas_hub.schemas import endpoints as wire
from aiaas_hub.schemas.errors import NotFound
from aiaas_magics import display
from aiaas_magics.display import Column, Listing, Rich


class Key(Rich):
    """A key; no display of it, not even its repr, holds the token: notebooks are saved."""

    def __init__(self, record: wire.Key) -> None:
        self._token = record.token
        self._record = record.model_copy(update={"token": None})

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def note(self) -> str:
        return self._record.note

    @property
    def scope(self) -> str:
        """ "metadata", "infer" or "versions"."""
        return str(self._record.scope)

    @property
    def rate(self) -> int | None:
        """Most requests per second; None: the owner's limits only."""
        return self._record.rate

    @property
    def expires_at(self) -> datetime:
        return self._record.expires_at

    @property
    def token(self) -> str:
        """What a caller sends as `Authorization: Bearer …`. Raises `NotFound` for a key that was
        not made here: the platform does not keep tokens."""
        if self._token is None:
            raise NotFound(
                f"The token of key {self.id} was shown when it was made and is not kept.",
                remedy=f"Make another key: '%aiaas keys {self._endpoint} create'.",
            )
        return self._token

    @property
    def state(self) -> str:
        if self._record.revoked_at is not None:
            return "revoked"
        expires = self._record.expires_at
        if expires.tzinfo is None:
            expires = expires.replace(tzinfo=UTC)
        return "expired" if expires <= datetime.now(UTC) else "valid"

    @property
    def _endpoint(self) -> str:
        return self._record.endpoint

    def _facts(self) -> list[tuple[str, str]]:
        token = "in the attribute .token, this once; it is not displayed" if self._token else ""
        return [
            ("endpoint", self._endpoint),
            ("note", self.note),
            ("scope", self.scope),
            ("rate", f"at most {self.rate} requests per second" if self.rate else ""),
            ("expires", f"{self.expires_at:%Y-%m-%d}"),
            ("token", token),
        ]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        return display.card(f"Key {self.id}", self.state, facts)

    def _text(self) -> str:
        return display.text_card(f"Key {self.id}", self.state, self._facts())


def key_list(keys: Iterable[Key], endpoint: str) -> Listing[Key]:
    return Listing(
        keys, _COLUMNS, empty=f"No keys yet: key = %aiaas keys {endpoint} create, then key.token."
    )


_COLUMNS: list[Column[Key]] = [
    Column("key", lambda k: k.id, lambda k: display.code(k.id)),
    Column("state", lambda k: k.state, lambda k: display.badge(k.state)),
    Column("note", lambda k: k.note),
    Column("scope", lambda k: k.scope),
    Column("rate", lambda k: f"{k.rate} a second" if k.rate else ""),
    Column("expires", lambda k: f"{k.expires_at:%Y-%m-%d}"),
]
