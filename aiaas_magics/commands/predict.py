"""`%aiaas predict`"""

from __future__ import annotations

import argparse

from aiaas_magics.commands.command import Call, Command, completed, variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    completed(parser.add_argument("name", metavar="NAME", help="an endpoint"), "endpoint")
    batch = parser.add_argument("batch", metavar="VAR", help="an array, the batch first, or texts")
    completed(batch, "variable")
    parser.add_argument("--into", type=variable, metavar="out", help="variable to make")


def run(args: argparse.Namespace, call: Call) -> object:
    from aiaas_magics.display import Note
    from aiaas_magics.endpoint import endpoints

    batch = call.value_of(args.batch)
    endpoint = endpoints.get(args.name)
    outputs = endpoint.predict(batch)
    if args.into is None:
        return outputs
    call.bind(args.into, outputs)
    arrays = outputs if isinstance(outputs, dict) else {args.into: outputs}
    shapes = ", ".join(
        f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.items()
    )
    return Note(f"{args.into}: {shapes} from {endpoint}")


COMMAND = Command(
    "predict",
    "send a batch to an endpoint",
    add_arguments,
    run,
    examples=("%aiaas predict digits X --into chances",),
)
