"""`%aiaas` and `%%aiaas`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

from aiaas_magics import completion, parsing
from aiaas_magics.commands import COMMANDS
from aiaas_magics.commands.command import Call

if TYPE_CHECKING:
    from argparse import Namespace

    from IPython.core.interactiveshell import InteractiveShell


@magics_class
class AiaasMagics(Magics):  # type: ignore[misc]  # IPython's types are not followed
    @no_var_expand  # type: ignore[untyped-decorator]  # likewise
    @line_cell_magic  # type: ignore[untyped-decorator]  # likewise
    def aiaas(self, line: str, cell: str | None = None) -> object:
        try:
            return self._dispatch(line, cell)
        except UsageError:
            raise
        except Exception as error:
            sentence = _sentence(error)
            if sentence is None:
                raise
            # Exactly this class: IPython shows it without a traceback.
            raise UsageError(sentence) from None

    def _dispatch(self, line: str, cell: str | None) -> object:
        words = parsing.split(line, self.shell.user_ns)
        if not words:
            if cell is not None:
                raise UsageError("%%aiaas needs a verb: '%%aiaas train --name NAME'.")
            # Here, not above: it brings the client along.
            from aiaas_magics.status import status

            return status()
        verb, *rest = words
        parser = parsing.find(verb)
        command = COMMANDS[verb]
        args = parser.parse(rest)
        if cell is not None and not command.cell:
            raise UsageError(f"'{verb}' takes no cell: write '%aiaas {verb}' on one line.")
        try:
            return command.run(args, Call(self.shell, cell, line))
        except Exception as error:
            near = _meant(error, parser, args)
            if not near:
                raise
            raise UsageError(f"{_sentence(error)} Did you mean {near!r}?") from None


AiaasMagics.aiaas.__doc__ = parsing.overview()


def _meant(error: Exception, parser: parsing.VerbParser, args: Namespace) -> str:
    """The nearest name that there is, where one was not found. Looking for it never fails."""
    if getattr(error, "code", "") != "not_found":
        return ""
    with suppress(Exception):
        return completion.nearest(parser, args)
    return ""


def _sentence(error: Exception) -> str | None:
    """What a user should read of an error; None if it is our bug and wants its traceback."""
    # Here, not above: an error is rare, and these cost more than the rest of the extension.
    from pydantic import ValidationError

    from aiaas_hub.schemas.errors import AiaasError
    from aiaas_magics.errors import invalid

    if isinstance(error, ValidationError):
        error = invalid(error)
    return str(error) if isinstance(error, AiaasError) else None


def register(shell: InteractiveShell) -> None:
    shell.register_magics(AiaasMagics)
    completion.register(shell)


def unregister(shell: InteractiveShell) -> None:
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("aiaas", None)
    completion.unregister(shell)
