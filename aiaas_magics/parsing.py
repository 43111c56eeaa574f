"""From a line of `%aiaas` to a verb and its arguments."""

from __future__ import annotations

import argparse
import difflib
import shlex
from functools import cache
from typing import NoReturn

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from aiaas_magics import not_yet
from aiaas_magics.commands import COMMANDS
from aiaas_magics.commands.command import Command
from aiaas_magics.interpolation import Namespace, interpolate


class VerbParser(MagicArgumentParser):  # type: ignore[misc]  # IPython's types are not followed
    """Parser of one verb, whose errors are one sentence with a remedy."""

    def __init__(self, command: Command) -> None:
        prefix = "%%aiaas" if command.cell else "%aiaas"
        super().__init__(
            prog=f"{prefix} {command.verb}",
            description=command.summary,
            formatter_class=argparse.HelpFormatter,
        )
        # IPython's class does not take it. A shortened option would break when options are added.
        self.allow_abbrev = False
        self.verb = command.verb
        self.examples = command.examples
        self._takes_arguments = command.arguments
        command.add_arguments(self)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}. See '%aiaas help {self.verb}'.") from None

    def parse(self, words: list[str]) -> argparse.Namespace:
        """Raises `UsageError`."""
        arguments: list[str] = []
        if self._takes_arguments and "--" in words:
            end = words.index("--")
            words, arguments = words[:end], words[end + 1 :]
        args: argparse.Namespace
        args, rest = self.parse_known_args(words)
        if rest:
            self.error(f"{rest[0]!r} is not known here{self._did_you_mean(rest[0])}")
        if self._takes_arguments:
            args.arguments = arguments
        return args

    def _did_you_mean(self, word: str) -> str:
        options = [option for action in self._actions for option in action.option_strings]
        return _close(word.partition("=")[0], options)

    @property
    def actions(self) -> list[argparse.Action]:
        return list(self._actions)


@cache
def parsers() -> dict[str, VerbParser]:
    return {verb: VerbParser(command) for verb, command in COMMANDS.items()}


def split(line: str, namespace: Namespace) -> list[str]:
    """The words of a line, with quotes as in a shell and `{expressions}` filled in."""
    return interpolate(line, namespace, _words)


def find(verb: str) -> VerbParser:
    """Raises `UsageError` with the nearest verb, or `NotYet` for one that is promised."""
    if verb in not_yet.VERBS:
        not_yet.refuse_verb(verb)
    parser = parsers().get(verb)
    if parser is None:
        near = _close(verb, [*COMMANDS, *not_yet.VERBS])
        raise UsageError(f"%aiaas has no verb {verb!r}{near}. '%aiaas help' lists them all.")
    return parser


def help_of(parser: VerbParser) -> str:
    """How a verb is used, and cells that use it."""
    examples = ("\n".join(f"  {line}" for line in e.split("\n")) for e in parser.examples)
    return "\n".join([str(parser.format_help()).strip(), "", "examples:", *examples])


def overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {verb:<{width}}  {command.summary}" for verb, command in COMMANDS.items()]
    return "\n".join(
        [
            "%aiaas                 who I am here, live runs and endpoints",
            "%aiaas VERB …          '%aiaas help VERB' says how a verb is used",
            "%%aiaas train …        train with the code of this cell",
            "",
            *lines,
            *(
                ["", f"Not in this release yet: {', '.join(not_yet.VERBS)}."]
                if not_yet.VERBS
                else []
            ),
        ]
    )


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        raise UsageError(f"A quote in {line.strip()!r} is not closed. Close it.") from None


def _close(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
