"""Where a request's token is: in its header alone, never in a URL or a cookie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiaas_hub.schemas.errors import Unauthenticated


def bearer(scope: Mapping[str, Any]) -> str:
    """The token of an ASGI request; raises `Unauthenticated` if there is none."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    header = headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, token = header.partition(" ")
    if scheme.lower() not in ("bearer", "token") or not token.strip():
        raise Unauthenticated(
            "This needs a token.",
            remedy="Send `Authorization: Bearer …`; in a notebook, %load_ext aiaas_magics does.",
        )
    return token.strip()
