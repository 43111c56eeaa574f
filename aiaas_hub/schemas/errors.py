"""Errors that reach a user: one sentence and what to do next.

    AiaasError
    ├── InvalidInput      400  the request cannot be meant
    ├── Unauthenticated   401  no valid token
    ├── Forbidden         403  a valid token that may not do this
    ├── NotFound          404  absent, or somebody else's: the two look the same
    ├── Conflict          409  the object's state does not allow this
    ├── TooLarge          413  more than this platform accepts
    ├── TooMany           429  more at a time than this platform allows one user
    ├── NotYet            501  promised, and not built yet
    ├── Unavailable       503  an engine is not up; trying again later may work
    │   └── DiskFull
    └── InternalError     500  our fault; the text says only the request's id

Only these texts are shown. Any other exception is logged with the request's id and answered as
`InternalError`.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from pydantic import BaseModel


class AiaasError(Exception):
    """Base of every error whose text is meant for the user."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, remedy: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def _render_traceback_(self) -> list[str]:
        """IPython asks for this: a user's mistake is shown in a sentence, not in our frames."""
        return [f"{type(self).__name__}: {self}"]


class InvalidInput(AiaasError):
    code = "invalid"
    status = 400


class Unauthenticated(AiaasError):
    code = "unauthenticated"
    status = 401


class Forbidden(AiaasError):
    code = "forbidden"
    status = 403


class NotFound(AiaasError):
    code = "not_found"
    status = 404


class Conflict(AiaasError):
    code = "conflict"
    status = 409


class TooLarge(AiaasError):
    code = "too_large"
    status = 413


class TooMany(AiaasError):
    code = "too_many"
    status = 429


class NotYet(AiaasError):
    code = "not_yet"
    status = 501


class Unavailable(AiaasError):
    code = "unavailable"
    status = 503


class DiskFull(Unavailable):
    """Nothing can be written where the platform keeps its state."""

    def __init__(self) -> None:
        super().__init__(
            "The platform's disk is full.",
            remedy="Nothing was changed; ask whoever runs the platform to make room.",
        )


def is_of_a_full_disk(error: BaseException) -> bool:
    """Also where the quota of the platform's user is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class InternalError(AiaasError):
    code = "internal"
    status = 500


class ErrorDetail(BaseModel):
    code: str
    message: str
    remedy: str = ""
    request_id: str = ""


class ErrorBody(BaseModel):
    """The one shape of every error answer: `{"error": {...}}`."""

    error: ErrorDetail


_BY_CODE: dict[str, type[AiaasError]] = {
    kind.code: kind
    for kind in (
        InvalidInput,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        TooLarge,
        TooMany,
        NotYet,
        Unavailable,
        InternalError,
    )
}


def to_body(error: AiaasError, request_id: str) -> ErrorBody:
    return ErrorBody(
        error=ErrorDetail(
            code=error.code, message=error.message, remedy=error.remedy, request_id=request_id
        )
    )


def from_body(body: ErrorBody) -> AiaasError:
    """Rebuild the exception an answer stands for; an unknown code becomes `InternalError`."""
    kind = _BY_CODE.get(body.error.code, InternalError)
    return kind(body.error.message, remedy=body.error.remedy, request_id=body.error.request_id)
