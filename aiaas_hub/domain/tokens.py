"""Run tokens: what a job shows instead of its user's own token.

A token is `<run>-<attempt>.<mac>`, the MAC being HMAC-SHA256 (RFC 2104) of the first part under a
key that only the service has. So a token can be made again after a crash, nothing about it is at
rest, and it expires with its attempt: the service takes it only while that attempt is live.
"""

from __future__ import annotations

import hashlib
import hmac
import re

_TOKEN = re.compile(r"(run-[a-z0-9]{4,24})-([1-9][0-9]{0,5})\.([0-9a-f]{64})")


class RunTokens:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, run_id: str, attempt: int) -> str:
        subject = f"{run_id}-{attempt}"
        return f"{subject}.{self._mac(subject)}"

    def check(self, token: str) -> tuple[str, int] | None:
        """Run and attempt that the token was made for; None if it is not one of ours."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        run_id, attempt, mac = match.groups()
        if not hmac.compare_digest(mac, self._mac(f"{run_id}-{attempt}")):
            return None
        return run_id, int(attempt)

    def _mac(self, subject: str) -> str:
        return hmac.new(self._key, subject.encode(), hashlib.sha256).hexdigest()
