"""A torch module with inputs of given names, around one that takes them in another form."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn


def with_named_inputs(
    model: nn.Module, names: Sequence[str], call: Callable[[nn.Module, list[Any]], Any]
) -> nn.Module:
    """A module whose forward has one parameter per name, as the export reads them, and gives
    `call(model, values)` with the values in that order. See `input_names` for what is a name."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *args: Any, **named: Any) -> Any:
            return call(self.model, [*args, *(named[name] for name in names if name in named)])

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    Named.forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in ("self", *names)]
    )
    return Named()


def input_names(wanted: Sequence[str]) -> list[str]:
    """Names that inputs can have, as near to the wanted ones as may be: `petal length (cm)` is
    `petal_length_cm`."""
    names: list[str] = []
    for text in wanted:
        name = re.sub(r"\W+", "_", text).strip("_") or "input"
        if name[0].isdigit() or keyword.iskeyword(name) or name == "self":
            name = f"input_{name}"
        unique, count = name, 1
        while unique in names:
            count += 1
            unique = f"{name}_{count}"
        names.append(unique)
    return names
