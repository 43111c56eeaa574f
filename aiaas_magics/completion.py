"""Tab after `%aiaas`: verbs, options, and names from a short-lived cache."""

from __future__ import annotations

import argparse
import difflib
import glob
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from IPython.core.error import TryNext

from aiaas_magics import not_yet
from aiaas_magics.commands import COMMANDS
from aiaas_magics.parsing import VerbParser, parsers

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from aiaas_magics.client import Client

log = logging.getLogger(__name__)

_PREFIX = re.compile(r"^\s*%%?aiaas(\s|$)")
_CACHE_SECONDS = 10.0
_WAIT_SECONDS = 1.0
_MOST_NAMES = 200
_KEYS = ("%aiaas", "%%aiaas")

_cache: dict[str, tuple[float, list[str]]] = {}


def complete(shell: Any, event: Any) -> list[str]:
    """IPython's `complete_command` hook. Never raises but `TryNext`, which means: not ours."""
    # The hook fires on a bare `aiaas` as well, which is the Python module.
    if not _PREFIX.match(event.line):
        raise TryNext
    try:
        return candidates(event.text_until_cursor, event.symbol, shell.user_ns)
    except Exception:  # a Tab must not end in a traceback, whatever went wrong
        log.debug("Completion of %r failed", event.line, exc_info=True)
        return []


def candidates(line: str, symbol: str, namespace: dict[str, Any]) -> list[str]:
    """What may stand at the end of `line`, of which `symbol` is typed already."""
    words = line.split()[1:]
    if words and not line[-1:].isspace():
        # The word at the cursor; IPython splits it at `@` and `=`, so it may be more than symbol.
        words.pop()
    if not words:
        return [*COMMANDS, *not_yet.VERBS]
    parser = parsers().get(words[0])
    if parser is None:
        return []
    before = words[1:]
    if symbol.startswith("-"):
        return [option for action in parser.actions for option in action.option_strings]
    action = _action_at(parser.actions, before)
    if action is None:
        return []
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    kind = getattr(action, "complete", None)
    if kind == "path":
        return _paths(symbol)
    if kind == "column":
        return _columns(before)
    return names(kind, namespace)


def _action_at(actions: list[argparse.Action], before: list[str]) -> argparse.Action | None:
    """The argument that the next word is for."""
    options = {option: action for action in actions for option in action.option_strings}
    positional = iter([action for action in actions if not action.option_strings])
    waiting: argparse.Action | None = None
    following: argparse.Action | None = None
    for word in before:
        if word in options:
            # Flags have nargs 0 and take no word.
            waiting = options[word] if options[word].nargs != 0 else None
        elif waiting is not None:
            waiting = waiting if _goes_on(waiting) else None
        elif not word.startswith("-"):
            following = next(positional, following)
    return waiting or next(positional, following if _goes_on(following) else None)


def _goes_on(action: argparse.Action | None) -> bool:
    """Whether it takes as many words as there are."""
    return action is not None and action.nargs in ("+", "*")


def names(kind: str | None, namespace: dict[str, Any]) -> list[str]:
    if kind is None:
        return []
    if kind == "verb":
        return [*COMMANDS, "recipe"]
    if kind == "recipe":
        # Here, not above: it brings pydantic along.
        from aiaas_magics.runtime.recipes import RECIPES

        return list(RECIPES)
    if kind == "variable":
        return [name for name in namespace if not name.startswith("_")]
    return _remembered(kind, _FETCH[kind])


def _remembered(key: str, fetch: Callable[[Client], Iterator[str]]) -> list[str]:
    read_at, known = _cache.get(key, (float("-inf"), []))
    if time.monotonic() - read_at < _CACHE_SECONDS:
        return known
    try:
        client = _hasty_client()
        try:
            known = list(islice(fetch(client), _MOST_NAMES))
        finally:
            client.transport.close()
    finally:
        # Also after a failure: the next Tab must not wait again.
        _cache[key] = (time.monotonic(), known)
    return known


def _columns(before: list[str]) -> list[str]:
    """Those of the dataset that stands first on the line."""
    name = next((word for word in before if not word.startswith("-")), None)
    if name is None:
        return []

    def ask(client: Client) -> Iterator[str]:
        dataset = client.datasets.get(*client.resolve_dataset(name))
        return (column.name for column in dataset.latest.columns)

    return _remembered(f"columns of {name}", ask)


def nearest(parser: VerbParser, args: argparse.Namespace) -> str:
    """Of a name in these arguments that there is none of, the one that was probably meant."""
    for action in parser.actions:
        kind = getattr(action, "complete", None)
        given = getattr(args, action.dest, None)
        if kind not in _FETCH or given is None:
            continue
        for text in given if isinstance(given, list) else [given]:
            name, at, version = str(text).partition("@")
            known = names(kind, {})
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            if near and name not in known:
                return f"{near[0]}{at}{version}"
    return ""


def _paths(beginning: str) -> list[str]:
    """Files and folders that go on like this, of names that need no quotes."""
    found = islice(glob.iglob(f"{glob.escape(beginning)}*"), _MOST_NAMES)
    paths = (f"{path}/" if os.path.isdir(path) else path for path in found)
    return [path for path in paths if shlex.quote(path) == path]


def _hasty_client() -> Client:
    """A client that gives up soon: someone is typing."""
    import httpx

    from aiaas_magics.client import Client, Connection, Transport

    connection = Connection.from_environment()
    return Client(Transport(connection, timeout=httpx.Timeout(_WAIT_SECONDS), attempts=1))


def _own(client: Client, owner: str, name: str) -> str:
    return name if owner == client.user else f"{owner}/{name}"


def _datasets(client: Client) -> Iterator[str]:
    return (_own(client, d.owner, d.name) for d in client.datasets.list())


def _runs(client: Client) -> Iterator[str]:
    return (run.id for run in client.runs.list())


def _models(client: Client) -> Iterator[str]:
    return (_own(client, m.owner, m.name) for m in client.models.list())


def _endpoints(client: Client) -> Iterator[str]:
    return (_own(client, e.owner, e.name) for e in client.endpoints.list())


def _profiles(client: Client) -> Iterator[str]:
    return (profile.name for profile in client.profiles())


_FETCH: dict[str, Callable[[Client], Iterator[str]]] = {
    "dataset": _datasets,
    "run": _runs,
    "model": _models,
    "endpoint": _endpoints,
    "profile": _profiles,
}


def register(shell: InteractiveShell) -> None:
    for key in _KEYS:
        shell.set_hook("complete_command", complete, str_key=key)


def unregister(shell: InteractiveShell) -> None:
    for key in _KEYS:
        shell.Completer.custom_completers.strs.pop(key, None)
    _cache.clear()
