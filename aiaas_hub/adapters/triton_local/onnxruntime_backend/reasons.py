"""What of an error may be told to callers: the reason, and no path of this machine.

Triton hands a backend's words to whoever sent the request, through the gateway as well.
"""

from __future__ import annotations

import os
import re

_LENGTH = 600
# What begins with a slash: a fraction and "input/output" are no paths.
_PATH = re.compile(r"(?<![\w.])(?:~\w*|[A-Za-z]:)?(?:[/\\]+[\w.@+~-]+)+[/\\]?")
_INSTALLED = re.compile(r"\S*(?:site|dist)-packages\S*")


def reason(error: Exception, path: str | None = None) -> str:
    """One line; of each path in it its last part. `path`: a file that the error may name, in a
    directory whose name may have blanks."""
    text = " ".join(str(error).split())
    if path:
        text = text.replace(" ".join(path.split()), os.path.basename(path))
        text = text.replace(" ".join(os.path.dirname(path).split()) + "/", "")
    text = _PATH.sub(_last, text)
    text = _INSTALLED.sub(_last, text)
    return text[:_LENGTH] or type(error).__name__


def _last(match: re.Match[str]) -> str:
    return re.split(r"[/\\]", match.group().rstrip("/\\"))[-1]
