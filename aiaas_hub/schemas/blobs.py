"""Content-addressed uploads: a body is sent once, then referred to by its hash."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hexadecimal."""


class Blob(BaseModel):
    digest: Digest
    size: int


class PartialUpload(BaseModel):
    """An upload that comes in pieces."""

    received: int
    """Bytes from its beginning: where the next piece goes on."""
