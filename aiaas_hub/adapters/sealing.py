"""Secrets sealed with Fernet (https://github.com/fernet/spec): AES-128-CBC with HMAC-SHA-256."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from aiaas_hub.home import write_private
from aiaas_hub.schemas.errors import Unavailable


class FernetSealer:
    """The keys are lines of a file, the newest first: it seals, all of them open. The file is read
    each time, so that one which is changed counts at once.

    `own`: the file is the platform's, and made at its first use (mode 600).
    """

    def __init__(self, file: Path, own: bool) -> None:
        self._file = file
        self._own = own

    def seal(self, content: bytes) -> bytes:
        return self._keys().encrypt(content)

    def open(self, sealed: bytes) -> bytes:
        try:
            return self._keys().decrypt(sealed)
        except InvalidToken as error:
            raise ValueError("sealed with a key that is not here") from error

    def seal_anew(self, sealed: bytes) -> bytes:
        """The same content, sealed with the newest key. Raises ValueError as `open` does."""
        try:
            return self._keys().rotate(sealed)
        except InvalidToken as error:
            raise ValueError("sealed with a key that is not here") from error

    def add_key(self) -> None:
        """A new newest one before those that are there."""
        keys = self._lines()
        write_private(self._file, "\n".join([Fernet.generate_key().decode(), *keys]) + "\n")

    def forget_keys(self, keep: int) -> None:
        """All but the newest ones."""
        write_private(self._file, "\n".join(self._lines()[:keep]) + "\n")

    def _keys(self) -> MultiFernet:
        try:
            return MultiFernet([Fernet(line) for line in self._lines()])
        except (OSError, ValueError):
            raise Unavailable(
                "The platform's key for secrets cannot be read.",
                remedy="Ask whoever runs the platform (secrets_key_file).",
            ) from None

    def _lines(self) -> list[str]:
        if self._own and not self._file.exists():
            # Another process may have been first; its key counts then.
            write_private(self._file, Fernet.generate_key().decode() + "\n", replace=False)
        return self._file.read_text().split()
