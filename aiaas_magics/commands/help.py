"""`%aiaas help`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verb = parser.add_argument("about", nargs="?", metavar="VERB", help="one verb")
    completed(verb, "verb")


def run(args: argparse.Namespace, call: Call) -> object:
    # Here, not above: the parsers are made from this module, too.
    from aiaas_magics import not_yet
    from aiaas_magics.display import Text
    from aiaas_magics.parsing import find, help_of, overview

    if args.about is None:
        return Text(overview())
    if args.about in not_yet.VERBS:
        not_yet.refuse_verb(args.about)
    return Text(help_of(find(args.about)))


COMMAND = Command("help", "say what there is, or how a verb is used", add_arguments, run)
