"""`aiaas.secrets`: my credentials for storage. What is typed goes to the platform and nowhere else:
not into the notebook, its history or its variables."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from aiaas_hub.schemas import secrets as wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import check_name
from aiaas_magics import display
from aiaas_magics.client import current_client
from aiaas_magics.display import Column, Listing, Note
from aiaas_magics.errors import invalid


class Secrets:
    """Mine: nobody else's are to be seen, and of mine only that they are there."""

    def list(self) -> Listing[wire.Secret]:
        return Listing(
            current_client().secrets.list(),
            _COLUMNS,
            empty="No secrets yet: '%aiaas secret set NAME --kind s3' asks for one.",
        )

    def set(
        self,
        name: str,
        kind: wire.SecretKind,
        values: Mapping[str, str] | None = None,
        file: str | Path | None = None,
    ) -> Note:
        """Keep a secret with the platform. Without `values` each is asked for, unseen; `file` is
        what holds the key of a Google service account. Raises `InvalidInput`."""
        check_name(name)
        if kind not in wire.KINDS:
            raise InvalidInput(
                f"There is no kind {kind!r}.", remedy=f"One of: {', '.join(wire.KINDS)}."
            )
        if file is not None:
            values = {wire.FORMS[kind][0][0]: _content(Path(file))}
        elif values is None:
            values = _asked(kind)
        wire.check_values(kind, values)
        client = current_client()
        try:
            request = wire.SecretPut(kind=kind, values=dict(values))
        except ValidationError as error:
            raise invalid(error) from None
        client.secrets.put(client.user, name, request)
        return Note(
            f"Secret {name} is kept. Use it: %aiaas register NAME {_EXAMPLES[kind]} --secret {name}"
        )

    def delete(self, name: str) -> Note:
        client = current_client()
        client.secrets.delete(client.user, check_name(name))
        return Note(f"Secret {name} is deleted.")


def _asked(kind: wire.SecretKind) -> dict[str, str]:
    """Each field in turn, until they are a whole secret that nothing can be added to."""
    forms = [set(form) for form in wire.FORMS[kind]]
    values: dict[str, str] = {}
    for field in dict.fromkeys(field for form in wire.FORMS[kind] for field in form):
        if set(values) in forms and not any(set(values) < form for form in forms):
            break
        optional = not all(field in form for form in forms)
        words = field.replace("_", " ")
        value = getpass.getpass(f"{words} (empty: none): " if optional else f"{words}: ").strip()
        if value:
            values[field] = value
    return values


def _content(path: Path) -> str:
    try:
        return path.expanduser().read_text()
    except (OSError, UnicodeError) as error:
        raise InvalidInput(
            f"{str(path)!r} cannot be read: {type(error).__name__}.", remedy="Check the path."
        ) from None


secrets = Secrets()

_EXAMPLES: dict[wire.SecretKind, str] = {
    "s3": "s3://BUCKET/PATH",
    "gs": "gs://BUCKET/PATH",
    "abfss": "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH",
    "webhdfs": "webhdfs://HOST:9870/PATH",
    "https": "https://HOST/FILE",
}

_COLUMNS: list[Column[wire.Secret]] = [
    Column("secret", lambda s: s.name, lambda s: display.code(s.name)),
    Column("for", lambda s: f"{s.kind}://"),
    Column("set", lambda s: f"{s.updated_at:%Y-%m-%d %H:%M}"),
    Column("used", lambda s: f"{s.used_at:%Y-%m-%d %H:%M}" if s.used_at else "never"),
]
