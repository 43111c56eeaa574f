"""A user's directory on a local platform: where it is, and what lies in it at first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import quote

from aiaas_hub.home import write_private

_RECORD = ".aiaas-examples.json"

# JupyterLab otherwise asks every new user about fetching news from the network.
_LAB_SETTINGS = Path(
    ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
)


def directory_name(user: str) -> str:
    """A file name for a hub user name, which may hold any character and be long.

    Different users get different names; none is empty, hidden, `.` or `..`, or longer than 255
    bytes.
    """
    name = quote(user, safe=" @+,=")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > 200:
        digest = hashlib.sha256(user.encode()).hexdigest()[:32]
        # '%' before a non-hexadecimal letter appears in no quoted name.
        return f"{name[:160]}%h{digest}"
    return name


def prepare_directory(directory: Path, examples: Path | None) -> None:
    """Make a user's directory and bring its examples up to date.

    An example is copied when it is new and replaced when the user has not touched it since; one
    that was changed or deleted is left alone.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = directory / _LAB_SETTINGS
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"fetchNews": "false"}) + "\n", encoding="utf-8")
    if examples is not None:
        _bring_examples(directory, examples)


def _bring_examples(directory: Path, examples: Path) -> None:
    target = directory / "examples"
    target.mkdir(exist_ok=True)
    record_file = target / _RECORD
    given = _read_record(record_file)
    before = dict(given)
    for source in sorted(examples.rglob("*")):
        relative = source.relative_to(examples)
        hidden = any(part.startswith((".", "__")) for part in relative.parts)
        if hidden or not source.is_file():
            continue
        key = relative.as_posix()
        copy = target / relative
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if key in given:
            untouched = (
                copy.is_file() and hashlib.sha256(copy.read_bytes()).hexdigest() == given[key]
            )
            if given[key] == digest or not untouched:
                continue
        elif copy.exists():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_private(copy, content)
        given[key] = digest
    if given != before:
        write_private(record_file, json.dumps(given, indent=1, sort_keys=True) + "\n")


def _read_record(path: Path) -> dict[str, str]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        # Unreadable: nothing is known to be untouched, so nothing present is replaced.
        return {}
    return record if isinstance(record, dict) else {}
