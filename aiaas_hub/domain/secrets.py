"""Users' own credentials for storage.

They are used for one thing: while data is registered, to copy it. The version that comes of it is
the platform's own copy, so neither a reader of the dataset nor a run, on whichever machine, needs
the secret or is given it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound, Unavailable
from aiaas_hub.schemas.names import check_name
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.secrets import Secret, SecretPut, check_values

MAX_SECRETS = 100
"""Of one user."""


class SecretRecords(Protocol):
    def put(self, secret: Secret, sealed: bytes, most: int) -> Secret | None:
        """Add or replace; None if the owner has `most` others already."""

    def get(self, owner: str, name: str) -> tuple[Secret, bytes] | None: ...

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Secret]:
        """By name."""

    def touch(self, owner: str, name: str, at: datetime) -> None:
        """It was used."""

    def delete(self, owner: str, name: str) -> Secret | None: ...


class Sealer(Protocol):
    """Encrypts with a key that the records do not have, and shows what was changed meanwhile."""

    def seal(self, content: bytes) -> bytes: ...

    def open(self, sealed: bytes) -> bytes:
        """Raises ValueError for what was not sealed with a key that is known here."""


class Secrets:
    def __init__(self, records: SecretRecords, sealer: Sealer) -> None:
        self._records = records
        self._sealer = sealer

    def put(self, owner: str, name: str, request: SecretPut) -> Secret:
        check_name(name)
        check_values(request.kind, request.values)
        now = datetime.now(UTC)
        secret = Secret(owner=owner, name=name, kind=request.kind, created_at=now, updated_at=now)
        # Whose it is is sealed with it: a row that is given another owner opens for nobody.
        content = {"owner": owner, "name": name, "kind": request.kind, "values": request.values}
        stored = self._records.put(
            secret, self._sealer.seal(json.dumps(content).encode()), MAX_SECRETS
        )
        if stored is None:
            raise Conflict(
                f"You have {MAX_SECRETS} secrets.", remedy="Delete one: %aiaas secret delete NAME."
            )
        return stored

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Secret]:
        # It is the name of the last one: what cannot be a name is asked of no database.
        return self._records.page(owner, None if cursor is None else check_name(cursor), limit)

    def delete(self, owner: str, name: str) -> Secret:
        deleted = self._records.delete(owner, check_name(name))
        if deleted is None:
            raise _absent(name)
        return deleted

    def credentials(self, owner: str, name: str, scheme: str) -> Mapping[str, str]:
        """The values of the owner's own secret, for an address of this scheme."""
        found = self._records.get(owner, name)
        if found is None:
            raise _absent(name)
        secret, sealed = found
        if secret.kind != {"hdfs": "webhdfs"}.get(scheme, scheme):
            raise InvalidInput(
                f"The secret {name} is for {secret.kind}://….",
                remedy="See which you have: %aiaas secrets.",
            )
        try:
            content = json.loads(self._sealer.open(sealed))
        except ValueError as error:
            raise _unreadable(name) from error
        if [content[field] for field in ("owner", "name", "kind")] != [owner, name, secret.kind]:
            raise _unreadable(name)
        self._records.touch(owner, name, datetime.now(UTC))
        values: dict[str, str] = content["values"]
        return values


def _absent(name: str) -> NotFound:
    return NotFound(
        f"You have no secret {name}.", remedy=f"Make it: %aiaas secret set {name} --kind KIND."
    )


def _unreadable(name: str) -> Unavailable:
    return Unavailable(
        f"The secret {name} cannot be read: the platform's key is another one.",
        remedy=f"Set it again: %aiaas secret set {name} --kind KIND.",
    )
