"""Credentials for storage, which a user keeps with the platform: what goes in never comes out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import Name

SecretKind = Literal["s3", "gs", "abfss", "webhdfs", "https"]
"""Named as the scheme that it is for; `webhdfs` is for hdfs:// too."""
KINDS: tuple[SecretKind, ...] = get_args(SecretKind)

FORMS: dict[SecretKind, tuple[tuple[str, ...], ...]] = {
    "s3": (("access_key", "secret_key"), ("access_key", "secret_key", "session_token")),
    "gs": (("service_account",),),
    "abfss": (("sas_token",), ("account_key",)),
    "webhdfs": (("token",),),
    "https": (("token",),),
}
"""Kind → what it may consist of. `service_account` is the JSON of a key, `webhdfs`' token a
delegation token, `https`' what is sent as `Authorization: Bearer`."""


class SecretPut(BaseModel):
    kind: SecretKind
    values: dict[
        Annotated[str, Field(max_length=32)], Annotated[str, Field(min_length=1, max_length=20_000)]
    ] = Field(max_length=8, repr=False)


class Secret(BaseModel):
    """That there is one. No answer has its values."""

    owner: str
    name: Name
    kind: SecretKind
    created_at: datetime
    updated_at: datetime
    used_at: datetime | None = None


def check_values(kind: SecretKind, values: Mapping[str, str]) -> None:
    """Raise `InvalidInput`, which names fields and no value, unless these make such a secret."""
    if set(values) not in [set(form) for form in FORMS[kind]]:
        forms = " or ".join(", ".join(form) for form in FORMS[kind])
        raise InvalidInput(
            f"A secret of the kind {kind} has the fields {forms}.",
            remedy=f"Type %aiaas secret set NAME --kind {kind}: it asks for each.",
        )
    if any(not value.isprintable() for name, value in values.items() if name != "service_account"):
        # They become parts of HTTP headers.
        raise InvalidInput(
            "A secret's value is one line of printable characters.", remedy="Copy it anew."
        )
