"""`%aiaas profile`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME[@V]", help="a dataset"), "dataset")


def run(args: argparse.Namespace, call: Call) -> object:
    from IPython.display import display

    from aiaas_magics.catalogue import datasets
    from aiaas_magics.display import Note

    dataset = datasets.get(args.name)
    shown = None

    def tell(done: int, total: int) -> None:
        nonlocal shown
        note = Note(f"Profiling {dataset}: {done} of {total} columns …")
        if shown is None:
            shown = display(note, display_id=True)
        else:
            shown.update(note)

    return dataset.profile(progress=tell)


COMMAND = Command(
    "profile",
    "say what is in each column of a dataset",
    add_arguments,
    run,
    examples=("%aiaas profile sales",),
)
"""It is computed once for each version, by the platform; interrupting stops the waiting only."""
