"""`%aiaas help`"""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verb = parser.add_argument("about", nargs="?", metavar="VERB", help="one verb")
    completed(verb, "verb")
    recipe = parser.add_argument(
        "name", nargs="?", metavar="NAME", help="after 'recipe': one, with its parameters"
    )
    completed(recipe, "recipe")


def run(args: argparse.Namespace, call: Call) -> object:
    # Here, not above: the parsers are made from this module, too.
    from aiaas_magics import not_yet
    from aiaas_magics.display import Text
    from aiaas_magics.parsing import find, help_of, overview

    if args.about == "recipe":
        from aiaas_magics.runtime.recipes import RECIPES
        from aiaas_magics.runtime.recipes import find as find_recipe

        if args.name is not None:
            return Text(find_recipe(args.name).help())
        return Text("\n".join(f"{recipe.name}: {recipe.summary}" for recipe in RECIPES.values()))
    if args.name is not None:
        raise UsageError(f"{args.name!r} is too much here. Write '%aiaas help {args.about}'.")
    if args.about is None:
        return Text(overview())
    if args.about in not_yet.VERBS:
        not_yet.refuse_verb(args.about)
    return Text(help_of(find(args.about)))


COMMAND = Command(
    "help",
    "say what there is, or how a verb is used",
    add_arguments,
    run,
    examples=(
        "%aiaas help",
        "%aiaas help train",
        "%aiaas help recipe text-classifier",
    ),
)
